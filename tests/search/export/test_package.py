"""Packages: a zip that is the same each time, a Dockerfile that copies what is there, and nothing overwritten."""

from __future__ import annotations

import ast
import json
import os
import zipfile
from pathlib import Path

import pytest

from olivine.passes.errors import UsageError
from olivine.search.export.package import SERVER_PINS, check_place, fill, packaged_manifest, zip_folder

VERSIONS = {"onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0", "numpy": "2.4.6"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a package is made of: an exported model, here of three files."""
    model = tmp_path / "scratch" / "model"
    model.mkdir(parents=True)
    (model / "olivine.json").write_text(json.dumps({"versions": VERSIONS}))
    (model / "model.onnx").write_bytes(b"graph")
    (model / "README.md").write_text("# A card\n")
    return model.parent


def test_requirements_are_pinned_and_the_page_says_how_to_run_it(folder: Path) -> None:
    fill(folder, "zip", "cpu")
    pins = [*(f"{k}=={v}" for k, v in VERSIONS.items()), *SERVER_PINS]
    assert (folder / "requirements.txt").read_text().splitlines() == pins
    page = (folder / "README.md").read_text()
    assert "pip install -r requirements.txt" in page
    assert "[model/README.md](model/README.md)" in page
    assert not (folder / "Dockerfile").exists()
    assert "curl http://127.0.0.1:8000/v1/chat/completions" in page


def test_the_script_imports_nothing_of_olivine(folder: Path) -> None:
    fill(folder, "zip", "cpu")
    scripts = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    assert {"run.py", "serving/__init__.py", "serving/server.py"} <= set(scripts)
    for name in scripts:
        imported = [
            node for node in ast.walk(ast.parse((folder / name).read_text())) if isinstance(node, ast.ImportFrom)
        ]
        assert not [node.module for node in imported if str(node.module).startswith("olivine")]


def test_the_web_server_is_pinned_as_it_is_tested() -> None:
    constraints = (Path(__file__).parents[3] / "constraints.txt").read_text().splitlines()
    assert set(SERVER_PINS) <= set(constraints)


def test_the_dockerfile_copies_and_runs_what_is_there_and_not_as_root(folder: Path) -> None:
    fill(folder, "docker", "cpu")
    lines = (folder / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1] for line in lines if line.startswith("COPY")]
    assert copied == ["requirements.txt", "model", "serving", "run.py"]
    assert all((folder / name).exists() for name in copied)
    order = [line.split()[0] for line in lines if line[:1].isalpha()]
    assert order[0] == "FROM"
    assert order.index("USER") < order.index("ENTRYPOINT")
    entry = json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).removeprefix("ENTRYPOINT"))
    assert entry == ["python", "run.py", "--serve", "8000", "--host", "0.0.0.0"]
    check = json.loads(next(line for line in lines if line.strip().startswith("CMD")).strip().removeprefix("CMD"))
    compile(check[2], "HEALTHCHECK", "exec")


def test_the_same_files_give_the_same_zip_whatever_their_times_and_modes(folder: Path, tmp_path: Path) -> None:
    fill(folder, "zip", "cpu")
    zip_folder(folder, tmp_path / "a" / "mine.zip")
    for path in folder.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (folder / "run.py").chmod(0o600)
    zip_folder(folder, tmp_path / "b" / "mine.zip")
    assert (tmp_path / "a" / "mine.zip").read_bytes() == (tmp_path / "b" / "mine.zip").read_bytes()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine.zip"]
    with zipfile.ZipFile(tmp_path / "a" / "mine.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert archive.read("mine/model/model.onnx") == b"graph"
    assert names == sorted(names, key=lambda name: name.split("/"))
    assert {name.split("/")[0] for name in names} == {"mine"}


def test_nothing_is_overwritten_unasked_and_nothing_else_than_a_package_at_all(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends with \.zip"):
        check_place(tmp_path / "mine", "zip", force=False)
    text = tmp_path / "text.zip"
    text.write_text("no zip")
    with pytest.raises(UsageError, match="exists already"):
        check_place(text, "zip", force=False)
    with pytest.raises(UsageError, match="is no zip file"):
        check_place(text, "zip", force=True)
    with pytest.raises(UsageError, match="is no folder with a Dockerfile"):
        check_place(folder, "docker", force=True)
    fill(folder, "docker", "cpu")
    check_place(folder, "docker", force=True)


def test_the_manifest_of_a_package_is_its_models(folder: Path, tmp_path: Path) -> None:
    zip_folder(folder, tmp_path / "mine.zip")
    assert packaged_manifest(tmp_path / "mine.zip") == packaged_manifest(folder) == {"versions": VERSIONS}
