"""The cache of a study's builds, and the bytes of disk that they may take."""

from __future__ import annotations

from pathlib import Path

from olivine.passes.sources.model_shape import count_weights
from olivine.passes.sources.source import Source
from olivine.passes.store.cache import Cache, cache_root, check_writable
from olivine.passes.store.shared_builds import SharedBuilds
from olivine.search.config.sections import CacheConfig

#: Checkpoint and float graph take 4 bytes a weight each, what layers read 3, codes of half a dozen formats 6; the last
#: candidates get the rest.
BYTES_PER_WEIGHT, LEAST_BYTES = 21, 2_000_000_000


def open_cache(config: CacheConfig, usual_bytes: int) -> Cache:
    """The cache of a study, with what other machines see of it; ``usual_bytes`` bounds it where the config does not.

    Raises:
        UnwritableCache: when its folder can't be made or written to.
    """
    check_writable(cache_folder(config))
    shared = SharedBuilds(config.shared) if config.shared else None
    return Cache(cache_folder(config), limit_bytes(config, usual_bytes), shared)


def cache_folder(config: CacheConfig) -> Path:
    """The folder that the config names, or the usual one."""
    return Path(config.folder).expanduser() if config.folder else cache_root()


def limit_bytes(config: CacheConfig, usual_bytes: int) -> int:
    """``cache.max_bytes``, or ``usual_bytes`` where the config does not say."""
    return usual_bytes if config.max_bytes is None else config.max_bytes


def language_bytes(source: Source) -> int:
    """Bytes that a study of a language model works well with."""
    return max(LEAST_BYTES, round(BYTES_PER_WEIGHT * count_weights(source).total))
