"""Fixtures that every test folder shares: a cache of its own, tiny models, and the demo assets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny import tiny_checkpoint

#: Where demo-marked tests find assets fetched by earlier runs; read before any fixture changes it.
_REAL_CACHE = os.environ.get("OLIVINE_CACHE")


@pytest.fixture(scope="session", autouse=True)
def olivine_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``OLIVINE_CACHE`` in a temporary folder, for this process and its children."""
    cache = tmp_path_factory.mktemp("cache")
    os.environ["OLIVINE_CACHE"] = str(cache)
    yield cache
    if _REAL_CACHE is None:
        del os.environ["OLIVINE_CACHE"]
    else:
        os.environ["OLIVINE_CACHE"] = _REAL_CACHE


@pytest.fixture(autouse=True)
def _demo_shares_the_real_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests marked ``demo`` use the user's own cache, so that nothing is fetched or built twice."""
    if request.node.get_closest_marker("demo") is not None:
        if _REAL_CACHE is None:
            monkeypatch.delenv("OLIVINE_CACHE", raising=False)
        else:
            monkeypatch.setenv("OLIVINE_CACHE", _REAL_CACHE)


@pytest.fixture(scope="session")
def make_tiny_checkpoint() -> Callable[..., Path]:
    """``tests/tiny.py``'s function, for tests that want another architecture or size."""
    return tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama checkpoint; do not write into it."""
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """``tiny_llama`` as a float32 ONNX Runtime GenAI folder; do not write into it."""
    from olivine.passes.export.export import Export

    folder = tmp_path_factory.mktemp("tiny") / "llama-onnx"
    folder.mkdir()
    Export().apply(tiny_llama, folder)
    return folder
