"""Predictions of the resident peak: beside what the demo model took, and by formula."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from study_folder import records

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.scenario.scenario import READY, Scenario
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.recipe import Recipe
from olivine.passes.sources.source import Source
from olivine.search.config.constraints import parse_constraint
from olivine.search.config.space import parse_space
from olivine.search.samplers.deployed_memory import DecoderSizes, DeployedMemory, touched
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.memory_mask import MARGIN, MemoryMask, memory_limit
from olivine.search.samplers.proposer import Proposer
from olivine.search.study.candidates import fitting

Choice = dict[str, Scalar]
DEMO = Source("demo:smollm2-135m-instruct", "demo", "demo", "k", "LlamaForCausalLM", "bfloat16", 270_000_000)
INT8: Choice = {"prune_head": True, "precision": "int8", "block_size": 64, "embedding": "int8", "fusion_level": "full"}
BY_TOKEN: Choice = {"activations": "int8", "activation_range": "token_down"}
CHUNKED: Choice = {"chunk_size": 256}
SPACE = {"prune_head": True, "precision": ["int8", "int4"], "kv_cache": ["float", "int8"], "chunk_size": 256}
#: Recipe, tokens of the prompt, tokens of the context -> resident peak in MB of a fresh process with two threads
#: (ONNX Runtime 1.31.1, ONNX Runtime GenAI 0.18).
MEASURED: list[tuple[Choice, int, int, float]] = [
    ({"prune_head": True}, 128, 512, 715.6),
    ({"prune_head": True}, 2000, 4096, 936.8),
    ({"prune_head": True, **CHUNKED}, 2000, 8192, 1053.4),
    ({**INT8, "embedding": "float"}, 128, 512, 278.1),
    ({**INT8, "embedding": "float"}, 2000, 4096, 587.2),
    (INT8, 128, 4096, 468.7),
    (INT8, 2000, 4096, 584.1),
    ({**INT8, "chunk_size": 512}, 6000, 8192, 686.6),
    ({**INT8, "embedding": "shared", "block_size": 128}, 128, 512, 304.5),
    ({**INT8, "embedding": "shared", "block_size": 128, **CHUNKED}, 2000, 8192, 670.1),
    ({**INT8, **BY_TOKEN}, 2000, 4096, 556.4),
    ({**INT8, **BY_TOKEN, **CHUNKED}, 2000, 4096, 460.8),
    ({**INT8, "precision": "int4", "block_size": 32}, 128, 512, 260.6),
    ({**INT8, "precision": "int4", "block_size": 32, "chunk_size": 512}, 6000, 8192, 645.3),
    ({**INT8, "prompt_attention": "whole"}, 2000, 4096, 870.6),
    ({**INT8, "prompt_attention": "whole", **CHUNKED}, 2000, 8192, 718.1),
    ({**INT8, "prune_head": False}, 2000, 4096, 976.2),
    ({**INT8, "kv_cache": "int8"}, 128, 512, 287.9),
    ({**INT8, "kv_cache": "int8"}, 2000, 4096, 443.6),
    ({**INT8, "kv_cache": "int8", "chunk_size": 512}, 6000, 8192, 403.8),
    ({**INT8, "kv_cache": "int4", **CHUNKED, "activations": "int8"}, 2000, 8192, 325.2),
]


def recipe(choice: Choice) -> Recipe:
    return LANGUAGE.compose({"threads": 2, **choice})


def memory(scenario: Scenario = READY["rag"]) -> DeployedMemory:
    sizes = DecoderSizes.of_source(DEMO)
    assert sizes is not None
    return DeployedMemory.of(sizes, scenario)


@pytest.mark.parametrize(("choice", "prompt", "context", "taken"), MEASURED)
def test_a_prediction_is_within_a_tenth_of_what_the_demo_model_took(
    choice: Choice, prompt: int, context: int, taken: float
) -> None:
    scenario = Scenario(context=context, prompt_tokens=prompt, new_tokens=8)
    assert memory(scenario).predict(recipe(choice)) == pytest.approx(taken * 1e6, rel=MARGIN)


def test_the_cache_counts_by_its_type_and_for_the_whole_context() -> None:
    short, long = memory(Scenario(context=2048)), memory(Scenario(context=8192))
    numbers = 2 * 30 * 3 * 64
    assert long.predict(recipe(INT8)) - short.predict(recipe(INT8)) == pytest.approx(4 * numbers * 6144)
    saved = long.predict(recipe(INT8)) - long.predict(recipe({**INT8, "kv_cache": "int8"}))
    assert saved == pytest.approx(3 * numbers * 8192)


def test_a_cache_that_grows_counts_twice_for_the_tokens_of_the_scenario_alone() -> None:
    growing = {**INT8, "share_buffer": False}
    of_text = memory(Scenario(context=8192, prompt_tokens=1000, new_tokens=24))
    numbers = 2 * 30 * 3 * 64
    saved = of_text.predict(recipe(INT8)) - of_text.predict(recipe(growing))
    assert saved == pytest.approx(4 * numbers * (8192 - 2 * 1024))


def test_weights_count_by_their_format() -> None:
    eight, mixed, four = (
        memory().predict(recipe({**INT8, "precision": precision, "int8_share": 0.5, "algorithm": "rtn"}))
        for precision in ("int8", "mixed", "int4")
    )
    assert four < mixed < eight
    assert mixed == pytest.approx((four + eight) / 2, rel=0.05)


def test_the_base_corrects_the_process_and_half_of_the_activations() -> None:
    predicted, base = memory(), records()[0]
    base = replace(base, recipe=recipe({"prune_head": True}))
    held = predicted.predict(base.recipe) - predicted.process_bytes
    activations = 2000 * 2.4 * predicted.sizes.token_bytes
    looked_up = held - activations - predicted.context_bytes(base.recipe)
    weights = looked_up - predicted._looked_up(base.recipe)
    loaded = weights + 150e6
    peak = held + 150e6 + 3 * activations
    taken = Measurement.exact("deployed_rss_bytes", "bytes", peak, loaded_rss_bytes=loaded)
    corrected = predicted.corrected(replace(base, metrics={**base.metrics, "deployed_rss_bytes": taken}))
    assert corrected.process_bytes == pytest.approx(150e6)
    assert corrected.activations == pytest.approx(math.sqrt(4))
    assert predicted.corrected(base) == predicted


def test_a_model_whose_config_tells_no_shapes_is_not_predicted() -> None:
    unknown = Source("some/model", "m", "checkpoint", "k", "SomeModel", "float16", 2_000_000_000, config={})
    assert DecoderSizes.of_source(unknown) is None


@given(tokens=st.integers(1, 10_000), vocabulary=st.integers(2, 50_000), rows=st.floats(1, 64))
def test_prompts_touch_no_more_rows_than_there_are_and_more_tokens_touch_more(
    tokens: int, vocabulary: int, rows: float
) -> None:
    some, more = touched(vocabulary, rows, tokens), touched(vocabulary, rows, 2 * tokens)
    assert 0 < some <= more <= vocabulary


def mask(megabytes: float) -> MemoryMask:
    return MemoryMask(megabytes * 1e6, memory())


def test_only_what_is_above_the_limit_by_more_than_the_error_is_masked() -> None:
    predicted = memory().predict(recipe(INT8)) / 1e6
    assert mask(predicted / (1 + MARGIN) + 1).reason(recipe(INT8)) is None
    reason = mask(predicted / (1 + MARGIN) - 1).reason(recipe(INT8))
    assert reason == f"deployed_rss_bytes is predicted at {predicted:.0f} MB, which can't fit 517 MB"
    masks = Masks(memory=mask(100))
    assert masks.reason(recipe(INT8)) is not None
    assert masks.reason(LANGUAGE.compose({"provider": "openvino", "precision": "int8"})) is None


def test_the_least_limit_on_the_resident_peak_counts() -> None:
    texts = ("deployed_rss_bytes <= 700MB", "deployed_rss_bytes <= 0.6GB", "model_bytes <= 1MB", "tpot_ms >= 1")
    assert memory_limit(map(parse_constraint, texts)) == 600e6
    assert memory_limit([parse_constraint("deployed_rss_bytes >= 1MB")]) is None


def test_a_space_that_can_not_fit_is_refused_with_its_smallest_recipe() -> None:
    space = parse_space({**SPACE, "embedding": "int8"}, LANGUAGE)
    mask(600).check(space)
    with pytest.raises(UsageError, match=r"deployed_rss_bytes <= 200 MB: no recipe of the space can fit") as caught:
        mask(200).check(space)
    assert "The smallest, precision int4, kv_cache int8, is predicted at" in str(caught.value)
    assert "47.2 MB of it are the cache of 4096 tokens" in str(caught.value)


def test_proposals_that_can_not_fit_are_not_made() -> None:
    space = parse_space({**SPACE, "block_size": [32, 128]}, LANGUAGE)
    study = optuna.create_study(directions=["minimize", "minimize"])
    study.ask()
    limit = mask(330)
    proposer = Proposer(space, "random", 0, 4, masks=Masks(memory=limit))
    made: list[dict[str, Any]] = []
    keys: set[str] = set()
    while (proposal := proposer.propose(study, len(made) + 1, keys)) is not None:
        made.append(dict(proposal.choice))
        keys.add(LANGUAGE.compose(proposal.choice).key)
    assert {choice["kv_cache"] for choice in made} == {"int8"}
    assert all(limit.reason(LANGUAGE.compose(choice)) is None for choice in made)


def test_choices_to_measure_first_that_can_not_fit_are_left_out_and_named() -> None:
    space = parse_space(SPACE, LANGUAGE)
    packed: Choice = {"precision": "int4", "kv_cache": "int8"}
    fits, left_out = fitting([{"precision": "int8"}, packed], space, Masks(memory=mask(330)))
    assert fits == (packed,)
    assert left_out[0].startswith("not built: enqueue.0, whose deployed_rss_bytes is predicted at")
    assert fitting([{"precision": "int8"}, packed], space, Masks())[0] == ({"precision": "int8"}, packed)
