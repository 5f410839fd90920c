"""How much of the disk a study's builds may take."""

from dataclasses import replace
from pathlib import Path

import pytest

from olivine.passes.sources.source import Source
from olivine.passes.store.cache import cache_root
from olivine.search.builds.study_cache import BYTES_PER_WEIGHT, LEAST_BYTES, language_bytes, limit_bytes, open_cache
from olivine.search.config.sections import CacheConfig

MODEL = Source("folder", "folder", "checkpoint", "k", "LlamaForCausalLM", "float16", 2_000_000_000, config={})


def test_a_study_takes_so_much_a_weight_unless_its_config_says_otherwise(tmp_path: Path) -> None:
    usual = language_bytes(MODEL)
    assert limit_bytes(CacheConfig(), usual) == BYTES_PER_WEIGHT * 1_000_000_000
    assert limit_bytes(CacheConfig(max_bytes=5_000_000), usual) == 5_000_000
    cache = open_cache(CacheConfig(folder=str(tmp_path)), usual)
    assert (cache.root, cache.max_bytes, cache.remote) == (tmp_path, BYTES_PER_WEIGHT * 1_000_000_000, None)


def test_a_small_model_has_room_for_many_candidates() -> None:
    assert language_bytes(replace(MODEL, weight_bytes=1000)) == LEAST_BYTES


def test_the_usual_folder_is_the_environments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path))
    assert open_cache(CacheConfig(), 1).root == cache_root() == tmp_path
