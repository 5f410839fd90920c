"""Builds in child processes: a crash, a hang or too much memory costs one build, and leaves no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from olivine.passes.catalog import LANGUAGE, read_recipe
from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.cache import Cache
from olivine.search.builds.builder import Builder
from olivine.search.builds.messages import Built
from olivine.search.builds.process import BuildProcess


@pytest.fixture(scope="module")
def source(tiny_llama: Path) -> Source:
    return resolve(str(tiny_llama))


def builder(source: Source, folder: Path, timeout_s: float = 300.0, limit: int | None = None) -> Builder:
    def request(recipe: Recipe, learned: str | None) -> dict[str, Any]:
        return {"model": source.model, "revision": None, "trust_remote_code": False, "calibration": learned}

    return Builder(request, Cache(folder / "cache"), folder / "requests", timeout_s, limit)


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "builds.child" in " ".join(p.cmdline())]


def test_a_build_is_cached_the_second_time(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        first = work.build(LANGUAGE.compose({"precision": "int8"}), "first")
        second = work.build(LANGUAGE.compose({"precision": "int8"}), "second")
    assert not any(p["cached"] for p in first.passes)
    assert all(p["cached"] for p in second.passes)
    assert first.artifact == second.artifact
    assert first.peak_rss_bytes > 50e6
    assert children() == []


def test_what_every_candidate_meets_is_not_evicted_under_way(source: Source, tmp_path: Path) -> None:
    """However long ago it was used: a study that lost its calibration text could build nothing that learns."""
    cache = Cache(tmp_path / "cache", max_bytes=10)
    key = store_tokens(cache, np.ones((2, 8), np.int32))
    os.utime(cache.model_path(key).parent / "artifact.json", (0, 0))
    with builder(source, tmp_path) as work:
        work.pin(key)
        cache.evict()
        assert cache.model_path(key).is_dir()
    os.utime(cache.model_path(key).parent / "artifact.json", (0, 0))
    cache.evict()
    assert not cache.model_path(key).is_dir()


def test_a_request_file_alone_reproduces_its_build(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        built = work.build(LANGUAGE.compose({"precision": "int4"}), "0001")
    response = tmp_path / "again.json"
    request = tmp_path / "requests" / "0001.request.json"
    command = [sys.executable, "-m", "olivine.search.builds.child", str(request), str(response)]
    subprocess.run(command, check=True, capture_output=True)
    assert json.loads(response.read_text())["key"] == built.artifact.key


def test_a_refusal_keeps_its_kind_and_reason(source: Source, tmp_path: Path) -> None:
    steps = [{"name": "export", "params": {}}, {"name": "dynamic_int8", "params": {"layers": "nothing"}}]
    with builder(source, tmp_path) as work, pytest.raises(PassRefused, match="no layer matches 'nothing'"):
        work.build(read_recipe(steps), "refused")
    assert children() == []


def test_a_killed_build_says_by_what(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        started = work.start(LANGUAGE.compose({}), "killed")
        while len(found := children()) < 2:
            assert not started.done()
        os.kill(found[-1].pid, signal.SIGKILL)
        with pytest.raises(BuildFailed, match="died of SIGKILL"):
            started.result()
        assert work.build(LANGUAGE.compose({}), "next").artifact.onnx_path().is_file()
    assert children() == []


def test_builds_are_forked_from_one_process_that_stays(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        work.build(LANGUAGE.compose({}), "first")
        (resident,) = children()
        work.build(LANGUAGE.compose({"precision": "int8"}), "second")
        assert children() == [resident]


def test_a_resident_process_that_died_is_replaced(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        work.prepare()
        (resident,) = children()
        os.kill(resident.pid, signal.SIGKILL)
        resident.wait()
        assert work.build(LANGUAGE.compose({}), "first").artifact.onnx_path().is_file()


def test_a_build_is_paused_while_something_is_timed(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        started = work.start(LANGUAGE.compose({"precision": "int8"}), "slow")
        with work.paused():
            deadline = time.monotonic() + 10  # a signal takes a moment to arrive
            while {process.status() for process in children()} != {psutil.STATUS_STOPPED}:
                assert time.monotonic() < deadline
            with pytest.raises(TimeoutError):
                started.result(timeout=0.3)
        assert started.result().artifact.onnx_path().is_file()


def test_a_cancelled_build_leaves_nothing_and_the_next_one_runs(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path) as work:
        work.start(LANGUAGE.compose({"precision": "int8"}), "cancelled")
        work.cancel()
        assert children() == []
        assert work.build(LANGUAGE.compose({}), "next").artifact.onnx_path().is_file()


def test_a_build_that_answers_with_a_folder_outside_the_cache_has_failed(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Built(str(tmp_path), tmp_path.name, [], [], 1)
    monkeypatch.setattr(BuildProcess, "run", lambda *_: (answer, 0.0))
    with builder(source, tmp_path) as work:
        with pytest.raises(BuildFailed, match="which is not in the cache"):
            work.build(LANGUAGE.compose({}), "elsewhere")
        with pytest.raises(BuildFailed, match=r"with a Built, not with an? ExpectedLosses"):
            work.expected_losses(LANGUAGE.compose({}), "text")


def test_a_build_that_takes_too_long_is_ended(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path, timeout_s=0.05) as work, pytest.raises(BuildFailed, match=r"within 0\.05 s"):
        work.build(LANGUAGE.compose({}), "slow")
    assert children() == []


def test_a_build_that_outgrows_its_memory_is_ended_and_says_how_much_it_held(source: Source, tmp_path: Path) -> None:
    with builder(source, tmp_path, limit=30_000_000) as work, pytest.raises(BuildFailed, match=r"limit is 30 MB"):
        work.build(LANGUAGE.compose({}), "big")
    assert children() == []
