"""Memory of a study counts the context that its candidates hold, at the type of their caches."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.sources.source import resolve
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.planning.estimate.estimator import BASE, memory_bytes, memory_text
from olivine.search.planning.estimate.language import PREFILL_SHARE, PROCESS_BYTES, START_S, LanguageEstimator
from olivine.search.planning.machine_speed import MachineRates

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
        word: memory_bytes(
            estimator(
                {"precision": "int8", "kv_cache": word},
                evaluation={"latency": {"prompt_tokens": 8000, "new_tokens": 192}},
            )
        )
        for word in ("float", "int4")
    }
    assert sizes["float"] - sizes["int4"] == pytest.approx(8192 * NUMBERS * 3.5)


def test_the_part_of_the_base_is_its_weights_in_float32_with_its_cache_and_process() -> None:
    choice: dict[str, Scalar] = {"precision": "int8"}
    study = estimator(choice, evaluation={"window_tokens": 256})
    cache = 256 * NUMBERS * 4
    assert study.memory_parts()[BASE] == pytest.approx(4 * study.weights.total + PROCESS_BYTES + cache)


def test_parts_of_memory_are_told_from_the_largest_on() -> None:
    text = memory_text({"a build": 5e8, "the base": 28.5e9, "the rest": 2e8})
    assert text == "28.5 GB for the base, 500 MB for a build, 200 MB for the rest"


#: A scenario, and a study without one that times the same lengths.
SCENARIO = {"prompt_tokens": 7000, "new_tokens": 100, "turns": 3, "turn_tokens": 446, "context": 8192}
LENGTHS = {"latency": {"prompt_tokens": 7000, "new_tokens": 100}}


def test_memory_counts_the_process_that_runs_the_scenario() -> None:
    choice: dict[str, Scalar] = {"precision": "fp32"}
    timed = {"latency": {"prompt_tokens": 8092, "new_tokens": 100}}
    used, without = estimator(choice, scenario=SCENARIO), estimator(choice, evaluation=timed)
    more = memory_bytes(used) - memory_bytes(without)
    assert more == pytest.approx(used.candidate_bytes[0] + PROCESS_BYTES + 8192 * NUMBERS * 4)


def test_memory_counts_the_base_twice_where_candidates_are_far_smaller() -> None:
    choice: dict[str, Scalar] = {"precision": "int4", "block_size": 128, "kv_cache": "int4"}
    small, large = (estimator({**choice, **more}, scenario=SCENARIO) for more in ({}, {"block_size": 256}))
    assert memory_bytes(small) == memory_bytes(large), "the base's own run takes more than any candidate's"


def test_time_counts_the_run_through_the_scenario_of_base_candidates_and_members() -> None:
    rates = MachineRates(flops=1e11, read_bytes_per_s=1e10, written_bytes_per_s=1e9)
    choice = LANGUAGE.canonical({"precision": "int8"})
    used, without = (estimator(choice, **more) for more in ({"scenario": SCENARIO}, {"evaluation": LENGTHS}))
    found, before = used.durations(10, rates), without.durations(10, rates)
    prompts_s = (7000 + 2 * 446) * 2 * (used.weights.total - used.weights.embedding) / (PREFILL_SHARE * 1e11)
    read_s = [(1 + 3 * 100) * size / 1e10 for size in (used.float_bytes, used.candidate_bytes[0])]
    assert found.base - before.base == pytest.approx(START_S + prompts_s + read_s[0])
    assert found.trial - before.trial == pytest.approx(START_S + prompts_s + read_s[1])
    assert found.member - before.member == pytest.approx(START_S + prompts_s + read_s[1])
    assert found.learning == before.learning


def test_time_counts_the_answers_of_candidates_that_guess() -> None:
    rates = MachineRates(flops=1e11, read_bytes_per_s=1e10, written_bytes_per_s=1e9)
    use = {"context": 4096, "new_tokens": 100, "prompt_tokens": 700, "prompts": "demo:code-edit"}
    guessing = LANGUAGE.canonical({"precision": "int8", "ngram_size": 3})
    found, plain = (
        estimator(choice, scenario=use).durations(10, rates)
        for choice in (guessing, LANGUAGE.canonical({"precision": "int8"}))
    )
    used = estimator(guessing, scenario=use)
    prompt_s = 700 * 2 * (used.weights.total - used.weights.embedding) / (PREFILL_SHARE * 1e11)
    answers_s = 2 * 2 * 6 * (prompt_s + 100 * used.candidate_bytes[0] / 1e10)
    assert found.trial - plain.trial == pytest.approx(answers_s)
    assert found.member - plain.member == pytest.approx(answers_s)
    assert found.base == plain.base
