"""Builds in child processes: a crash, a hang or too much memory costs one build, and leaves no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from olivine.passes.cache import Cache
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.recipe import Recipe, compose
from olivine.passes.source import Source, resolve
from olivine.search.workers import Builder


@pytest.fixture(scope="module")
def source(tiny_llama: Path) -> Source:
    return resolve(str(tiny_llama))


def builder(source: Source, folder: Path, timeout_s: float = 300.0, limit: int | None = None) -> Builder:
    return Builder(source, Cache(folder / "cache"), folder / "requests", timeout_s, limit)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "build_child" in " ".join(p.cmdline())]


def test_a_build_is_cached_the_second_time(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        first = work.build(compose({"precision": "int8"}), "first")
        second = work.build(compose({"precision": "int8"}), "second")
    assert not any(p["cached"] for p in first.passes)
    assert all(p["cached"] for p in second.passes)
    assert first.artifact == second.artifact
    assert first.peak_rss_bytes > 50e6
    assert children() == []


def test_a_request_file_alone_reproduces_its_build(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        built = work.build(compose({"precision": "int4"}), "0001")
    response = tmp_path / "again.json"
    request = tmp_path / "requests" / "0001.request.json"
    command = [sys.executable, "-m", "olivine.search.build_child", str(request), str(response)]
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads(response.read_text())["key"] == built.artifact.key


def test_a_refusal_keeps_its_kind_and_reason(source: Source, tmp_path: Path) -> None:
    steps = [{"name": "export", "params": {}}, {"name": "dynamic_int8", "params": {"layers": "nothing"}}]
    with builder(source, tmp_path) as work, pytest.raises(PassRefused, match="no layer matches 'nothing'"):
        work.build(Recipe.from_json(steps), "refused")
    assert children() == []


def test_a_killed_build_says_by_what(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        work.prepare()
        (child,) = children()
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(BuildFailed, match="died of SIGKILL"):
            work.build(compose({}), "killed")
        assert work.build(compose({}), "next").artifact.onnx_path().is_file()
    assert children() == []


def test_a_build_that_takes_too_long_is_ended(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path, timeout_s=0.05) as work, pytest.raises(BuildFailed, match=r"within 0\.05 s"):
        work.build(compose({}), "slow")
    assert children() == []


def test_a_build_that_outgrows_its_memory_is_ended_and_says_how_much_it_held(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path, limit=30_000_000) as work, pytest.raises(BuildFailed, match=r"limit is 30 MB"):
        work.build(compose({}), "big")
    assert children() == []
