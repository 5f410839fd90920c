from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import UnwritableCache
from olivine.passes.store.cache import IN_USE_S, Cache, cache_root, check_writable


def filled(size_bytes: int) -> Callable[[Path], frozenset[str]]:
    def build(to: Path) -> frozenset[str]:
        (to / "model.onnx").write_bytes(b"x" * size_bytes)
        return frozenset({"onnx"})

    return build


def age(cache: Cache, key: str, seconds: float) -> None:
    """Pretend that the entry was last used that long ago."""
    then = time.time() - seconds
    os.utime(cache.root / "artifacts" / key / "artifact.json", (then, then))


def keys(cache: Cache) -> set[str]:
    return {p.name for p in (cache.root / "artifacts").iterdir()}


def test_entry_is_found_again_with_its_facts(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.get("k") is None
    made = cache.put("k", filled(3))
    assert cache.get("k") == made == ModelArtifact(made.path, "k", frozenset({"onnx"}))
    assert (made.path / "model.onnx").read_bytes() == b"xxx"


def test_entry_is_built_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put("k", filled(3))
    cache.put("k", lambda _: pytest.fail("built again"))


def test_failure_is_never_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    def fail(to: Path) -> frozenset[str]:
        (to / "half").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.put("k", fail)
    assert cache.get("k") is None
    assert keys(cache) == set()
    assert cache.put("k", filled(1)).key == "k"


def test_two_threads_make_one_build(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    builds: list[Path] = []
    started = threading.Barrier(2)

    def build(to: Path) -> frozenset[str]:
        builds.append(to)
        time.sleep(0.05)
        return filled(1)(to)

    made: list[ModelArtifact] = []

    def ask() -> None:
        started.wait()
        made.append(cache.put("k", build))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(builds) == 1
    assert made[0] == made[1]


def test_least_recently_used_entries_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=2500)
    for order, key in enumerate(("old", "older", "oldest")):
        cache.put(key, filled(1000))
        age(cache, key, 2 * IN_USE_S + 100 * order)
    cache.evict()
    assert keys(cache) == {"old", "older"}


def test_candidates_go_before_what_they_are_made_of(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=2500)

    def candidate(to: Path) -> frozenset[str]:
        return filled(1000)(to) | {"onnx", "quantized"}

    for order, (key, build) in enumerate((("new", candidate), ("old", candidate), ("float", filled(1000)))):
        cache.put(key, build)
        age(cache, key, 2 * IN_USE_S + 100 * order)
    cache.evict()
    assert keys(cache) == {"new", "float"}
    replace(cache, max_bytes=500).evict()
    assert keys(cache) == set()


def test_use_makes_an_entry_young(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1500)
    for key in ("used", "unused"):
        cache.put(key, filled(1000))
    age(cache, "used", 4 * IN_USE_S)
    age(cache, "unused", 2 * IN_USE_S)
    cache.get("used")
    cache.evict()
    assert keys(cache) == {"used"}


def test_entry_in_use_stays_however_large(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=10)
    cache.put("k", filled(1000))
    cache.evict()
    assert keys(cache) == {"k"}


def test_held_entries_stay_and_the_next_oldest_go(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1500)
    for key in ("held", "free"):
        cache.put(key, filled(1000))
    age(cache, "held", 4 * IN_USE_S)
    age(cache, "free", 2 * IN_USE_S)
    with Cache(tmp_path, 1500).pin("held"):
        cache.evict()
        assert keys(cache) == {"held"}
    cache.put("new", filled(1000))
    age(cache, "new", 2 * IN_USE_S)
    age(cache, "held", 4 * IN_USE_S)
    cache.evict()
    assert keys(cache) == {"new"}


def test_what_a_build_was_given_stays_until_it_ends(tmp_path: Path) -> None:
    Cache(tmp_path).put("input", filled(1000))
    with ExitStack() as pins:
        build = Cache(tmp_path, 10, pins=pins)
        assert build.get("input") is not None
        build.put("output", filled(1000))
        for key in ("input", "output"):
            age(build, key, 2 * IN_USE_S)
        Cache(tmp_path, 10).evict()
        assert keys(build) == {"input", "output"}
    Cache(tmp_path, 10).evict()
    assert keys(Cache(tmp_path)) == set()


def test_store_that_fits_is_left_alone(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=5000)
    cache.put("k", filled(1000))
    age(cache, "k", 100 * IN_USE_S)
    cache.evict()
    assert keys(cache) == {"k"}


def test_what_others_are_building_is_no_entry_yet(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1500)
    cache.put("k", filled(1000))
    building = tmp_path / "artifacts" / ".building-other.x"
    building.mkdir()
    (building / "artifact.json").write_bytes(b"x" * 1000)
    for name in ("k", building.name):
        age(cache, name, 2 * IN_USE_S)
    with cache._lock("other"):
        cache.evict()
        assert keys(cache) == {"k", building.name}


def test_an_entry_that_its_builder_takes_away_meanwhile_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, rglob = Cache(tmp_path), Path.rglob
    for key in ("gone", "old"):
        cache.put(key, filled(1000))
        age(cache, key, 2 * IN_USE_S)

    def late(folder: Path, pattern: str) -> Iterator[Path]:
        if folder.name == "gone":
            shutil.rmtree(folder)
        return iter(rglob(folder, pattern))

    monkeypatch.setattr(Path, "rglob", late)
    replace(cache, max_bytes=500).evict()
    assert keys(cache) == set()


def test_hard_links_are_counted_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1500)
    first = cache.put("first", filled(1000))

    def link(to: Path) -> frozenset[str]:
        os.link(first.path / "model.onnx", to / "model.onnx")
        return frozenset()

    cache.put("second", link)
    for key in ("first", "second"):
        age(cache, key, 2 * IN_USE_S)
    cache.evict()
    assert keys(cache) == {"first", "second"}


def test_root_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    monkeypatch.delenv("OLIVINE_CACHE")
    assert cache_root() == Path.home() / ".cache" / "olivine"


def test_an_entry_whose_file_was_cut_changed_or_deleted_is_built_anew(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    weights = cache.put("k", filled(5)).path / "model.onnx"
    for damage in (
        lambda: weights.write_bytes(b"xx"),
        lambda: weights.write_bytes(b"yyyyy"),
        weights.unlink,
        (tmp_path / "artifacts" / "k" / "artifact.json").unlink,
        lambda: (tmp_path / "artifacts" / "k" / "artifact.json").write_bytes(b"\0" * 40),
    ):
        damage()
        assert cache.get("k") is None
        assert (cache.put("k", filled(5)).path / "model.onnx").read_bytes() == b"xxxxx"
    assert keys(cache) == {"k"}


def test_what_a_killed_process_was_building_goes_and_what_is_being_built_stays(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from olivine.passes.store.cache import Cache\n"
        "Cache(Path(sys.argv[1])).put('k', lambda to: os.kill(os.getpid(), 9))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert [name.split(".")[1] for name in keys(Cache(tmp_path))] == ["building-k"]

    def build(to: Path) -> frozenset[str]:
        Cache(tmp_path).sweep()
        assert len(keys(Cache(tmp_path))) == 1
        return filled(1)(to)

    Cache(tmp_path).put("other", build)
    assert keys(Cache(tmp_path)) == {"other"}


def test_a_clock_that_jumps_back_evicts_nothing_in_use_and_lets_nothing_stay_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(tmp_path, max_bytes=10)
    cache.put("k", filled(1000))
    age(cache, "k", -1_000_000)
    cache.evict()
    assert keys(cache) == {"k"}
    later = time.time() + 2 * IN_USE_S
    monkeypatch.setattr(time, "time", lambda: later)
    cache.evict()
    assert keys(cache) == set()


@pytest.mark.parametrize("below", ["", "deeper/cache"])
def test_a_cache_below_a_file_is_a_mistake_that_names_its_two_settings(tmp_path: Path, below: str) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    with pytest.raises(UnwritableCache, match=r"can't be written.*OLIVINE_CACHE.*cache: \{folder") as raised:
        check_writable(file / below)
    assert raised.value.exit_code == 2
    assert file.read_text() == "kept"


def test_a_cache_that_can_be_written_is_made_and_left_empty(tmp_path: Path) -> None:
    check_writable(tmp_path / "deep" / "cache")
    assert list((tmp_path / "deep" / "cache").iterdir()) == []
