"""CONTRIBUTING is true: what its recipes add to a copy of the source is all that a study needs to run with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^ *```(?P<kind>python|diff) (?P<path>\S+)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: Runs ``olivine`` with arguments; returns what it prints.
Olivine = Callable[..., str]


def blocks() -> Iterator[tuple[str, str, str]]:
    """Kind, path and text of every block of CONTRIBUTING that changes a file."""
    for block in BLOCK.finditer((ROOT / "CONTRIBUTING.md").read_text()):
        yield block["kind"], block["path"], dedent(block["text"])


def patched(text: str, diff: str) -> str:
    """``text`` with the lines of ``diff`` added and removed, at the only place where its other lines stand."""
    marked = [(line[:1] or " ", line[1:]) for line in diff.splitlines()]
    before = "".join(f"{line}\n" for mark, line in marked if mark in " -")
    after = "".join(f"{line}\n" for mark, line in marked if mark in " +")
    assert text.count(before) == 1, f"these lines stand {text.count(before)} times in the file:\n{before}"
    return text.replace(before, after)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the three packages as ``olivine``, after all that CONTRIBUTING adds."""
    home = tmp_path_factory.mktemp("copy")
    for package in ("search", "evaluators", "passes"):
        shutil.copytree(ROOT / package, home / "olivine" / package, ignore=shutil.ignore_patterns("__pycache__"))
    for kind, name, text in blocks():
        path = home / "olivine" / name
        assert path.exists() == (kind == "diff"), name
        path.write_text(patched(path.read_text(), text) if kind == "diff" else text)
    return home


@pytest.fixture
def olivine(copy: Path, tmp_path: Path) -> Olivine:
    """The command line of the copy."""

    def run(*arguments: str) -> str:
        command = [sys.executable, "-P", "-m", "olivine.search.cli.main", *arguments]
        child = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(copy)}, cwd=tmp_path, capture_output=True, text=True
        )
        assert child.returncode == 0, child.stdout + child.stderr
        return child.stdout

    return run


def test_a_study_runs_with_a_pass_a_metric_an_evaluator_and_a_sampler_of_its_own(
    olivine: Olivine, tiny_llama: Path, tmp_path: Path
) -> None:
    raw = tiny_yaml(
        tiny_llama,
        write_text(tmp_path / "text.txt"),
        space={"precision": ["fp32", "int4"], "mantissa_bits": [10, 23]},
        objectives=["graph_bytes", "kl_divergence"],
        sampler={"name": "qmc"},
        enqueue=[{"precision": "fp32", "mantissa_bits": 10}],
        stop={"trials": 2},
        confirm={"members": 1, "race": None},
    )
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(raw))
    olivine("run", "study.yaml", "--out", "study")
    records = json.loads(olivine("trials", "study", "--json"))
    assert {record["state"] for record in records} == {"complete"}
    assert any(step["name"] == "round_weights" for record in records for step in record["passes"])
    assert all(record["metrics"]["graph_bytes"]["value"] > 0 for record in records)
    assert int(olivine("size", "study/best")) > 0


def test_what_contributing_adds_is_in_the_style_of_the_source(copy: Path) -> None:
    changed = sorted({str(copy / "olivine" / name) for _, name, _ in blocks()})
    ruff = [str(Path(sys.executable).with_name("ruff")), "--config", str(ROOT / "pyproject.toml"), *changed]
    for command in (["check"], ["format", "--check"]):
        style = subprocess.run([ruff[0], *command, *ruff[1:]], capture_output=True, text=True)
        assert style.returncode == 0, style.stdout + style.stderr
