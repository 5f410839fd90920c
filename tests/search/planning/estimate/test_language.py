"""Memory of a study counts the context that its candidates hold, at the type of their caches."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.passes.base import Scalar
from olivine.passes.sources.source import resolve
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.planning.estimate.language import LanguageEstimator

#: Numbers that a token of the demo model caches: keys and values of 30 layers with 3 heads of 64 features.
NUMBERS = 2 * 30 * 3 * 64


def estimator(choice: dict[str, Scalar], **more: Any) -> LanguageEstimator:
    raw = {"model": "demo:smollm2-135m-instruct", "space": {"precision": ["fp32", "int8"]}} | more
    config = parse_config(raw, "study.yaml")
    assert isinstance(config, LanguageStudyConfig)
    return LanguageEstimator(config, resolve(config.model), [choice])


@pytest.mark.parametrize(("word", "width"), [("float", 4.0), ("int8", 1.0), ("int4", 0.5)])
def test_a_cache_takes_its_type_for_each_token_of_the_context(word: str, width: float) -> None:
    choice: dict[str, Scalar] = {"precision": "int8", "kv_cache": word}
    used = estimator(choice, scenario={"name": "rag", "context": 8192})
    assert used.cache_bytes(choice) == 8192 * NUMBERS * width
    without = estimator(choice, evaluation={"window_tokens": 256, "latency": {"prompt_tokens": 600, "new_tokens": 8}})
    assert without.cache_bytes(choice) == 608 * NUMBERS * width


def test_memory_counts_the_caches_of_base_and_candidate() -> None:
    sizes = {
        word: estimator(
            {"precision": "int8", "kv_cache": word}, scenario={"name": "rag", "context": 8192}
        ).memory_bytes()
        for word in ("float", "int4")
    }
    assert sizes["float"] - sizes["int4"] == pytest.approx(8192 * NUMBERS * 3.5)
