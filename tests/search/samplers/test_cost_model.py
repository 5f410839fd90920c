from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from study_folder import records

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.kernel import DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN, FLOAT, Kernel
from olivine.passes.quantize.activations.integer_matmul import REDUCED_TOP, TOP
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.search.config.load import language_config, parse_config
from olivine.search.config.space import parse_space
from olivine.search.samplers import factory
from olivine.search.samplers.cost_model import (
    LEAST_DIVERGENCE,
    PREDICTED,
    CostModel,
    predictable,
)
from olivine.search.samplers.factory import make_cost_model, sampler_name
from olivine.search.samplers.layer_kernels import layer_formats, recipe_kernels
from olivine.search.samplers.masks import NO_MASKS

#: One step over the whole range loses 255 ** 2 at any block size: 1 at 8 bits, 289 at 4.
BLOCKS = {f"{size}/asym/{how}": 255.0**2 for size in (16, 32, 64, 128, 256) for how in ("alone", "learned")}
PATHS = ("layers.0/qkv_proj", "layers.0/down_proj", "lm_head")
LOSSES = {path: LayerLoss(path, 64, 32, BLOCKS, {str(TOP): 5.0, str(REDUCED_TOP): 20.0}) for path in PATHS}
INT8: dict[str, Scalar] = {"precision": "int8", "block_size": 32, "symmetric": False, "threads": 1}


@dataclass(frozen=True)
class FakeClock:
    """Four milliseconds a float product, one any other; more tokens take longer in proportion."""

    def ms(self, kernel: Kernel, k: int, n: int, tokens: int) -> float:
        return (4.0 if kernel == FLOAT else 1.0) * tokens


BASE = {
    "tpot_ms": 20.0,
    "ttft_ms": 130.0,
    "e2e_ms": 200.0,
    "perplexity": 10.0,
    "model_bytes": 1e6,
    "peak_rss_bytes": 2e6,
}
TINY = CostModel(LOSSES, FakeClock(), prompt_tokens=10, new_tokens=3, base=BASE)
DEPLOYED = replace(TINY, base={**BASE, "context_bytes": 4e6, "deployed_rss_bytes": 9e6})


def test_prefill_is_that_of_the_prompt_that_was_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Probed(FakeClock):
        def __init__(self, losses: object, tokens: tuple[int, ...], threads: int, known: object) -> None:
            asked.append(tokens)

        def probe(self, kernels: Iterable[Kernel]) -> None:
            assert set(kernels)

    monkeypatch.setattr(factory, "ProbedKernels", Probed)
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}}
    base = records()[0]
    ttft = replace(base.metrics["ttft_ms"], protocol={"prompt_tokens": 23})
    base = replace(base, metrics={**base.metrics, "ttft_ms": ttft})
    model = make_cost_model(language_config(parse_config(raw, "a.yaml")), base, lambda recipe: LOSSES, NO_MASKS)
    assert (model.prompt_tokens, asked) == (23, [(1, 23)])


def test_what_is_predicted_is_named() -> None:
    assert set(DEPLOYED.predict(LANGUAGE.compose(INT8))) == PREDICTED
    assert set(TINY.predict(LANGUAGE.compose(INT8))) == PREDICTED - {"context_bytes", "deployed_rss_bytes"}


def test_memory_in_a_scenario_falls_by_the_weights_and_by_the_cache() -> None:
    found = DEPLOYED.predict(LANGUAGE.compose(INT8))
    saved = BASE["model_bytes"] - found["model_bytes"]
    assert (found["context_bytes"], found["deployed_rss_bytes"]) == (4e6, pytest.approx(9e6 - saved))
    quarter = DEPLOYED.predict(LANGUAGE.compose({**INT8, "kv_cache": "int8"}))
    assert (quarter["context_bytes"], quarter["deployed_rss_bytes"]) == (1e6, pytest.approx(6e6 - saved))


@pytest.mark.parametrize(
    ("constraint", "sampler"),
    [("load_ms <= 2s", "tpe"), ("cpu_ms_per_token <= 9", "tpe"), ("model_bytes <= 1GB", "forecast")],
)
def test_a_study_that_watches_what_is_not_predicted_is_proposed_by_tpe(constraint: str, sampler: str) -> None:
    space = {"precision": ["int8", "mixed"], "int8_share": {"low": 0.0, "high": 1.0}}
    raw = {"model": "some/model", "scenario": "chat", "space": space, "constraints": [constraint]}
    assert sampler_name(parse_config(raw, "test.yaml")) == sampler


def test_what_is_no_linear_layer_takes_as_long_as_in_the_base() -> None:
    found = TINY.predict(LANGUAGE.compose(INT8))
    assert found["tpot_ms"] == pytest.approx(20 - 3 * 4 + 3 * 1)
    assert found["ttft_ms"] == pytest.approx(130 - 3 * 40 + 3 * 10)
    assert found["e2e_ms"] == pytest.approx(found["ttft_ms"] + 2 * found["tpot_ms"])
    assert found["tpot_speedup"] == pytest.approx(20 / found["tpot_ms"])


def test_a_pruned_head_takes_the_time_of_one_token_in_prefill_and_the_same_in_decode() -> None:
    found = replace(TINY, pruned_head=True).predict(LANGUAGE.compose({**INT8, "prune_head": True}))
    assert found["ttft_ms"] == pytest.approx(130 - (2 * 40 + 4) + (2 * 10 + 1))
    assert found["tpot_ms"] == TINY.predict(LANGUAGE.compose(INT8))["tpot_ms"]


def test_a_whole_head_beside_a_pruned_base_costs_its_prefill_and_guesses_change_no_forecast() -> None:
    model = replace(TINY, pruned_head=True)
    pruned, whole, guessing = (
        model.predict(LANGUAGE.compose({**INT8, "prune_head": head, **more}))
        for head, more in ((True, {}), (False, {}), (False, {"ngram_size": 3, "max_draft_tokens": 8}))
    )
    assert whole["ttft_ms"] == pytest.approx(pruned["ttft_ms"] + 9)  # ten rows of the head instead of one
    assert guessing == whole


def test_losses_of_layers_add_up() -> None:
    assert TINY.predict(LANGUAGE.compose(INT8))["kl_divergence"] == pytest.approx(3 + LEAST_DIVERGENCE)
    head_in_float = LANGUAGE.compose({**INT8, "lm_head": "fp32"})
    assert TINY.predict(head_in_float)["kl_divergence"] == pytest.approx(2 + LEAST_DIVERGENCE)
    four = LANGUAGE.compose({**INT8, "precision": "int4"})
    assert TINY.predict(four)["kl_divergence"] == pytest.approx(3 * 289)


def test_bytes_are_those_of_the_codes_and_scales() -> None:
    saved = 3 * (4 * 64 * 32 - 32 * 2 * (32 + 4))
    assert TINY.predict(LANGUAGE.compose(INT8))["model_bytes"] == 1e6 - saved


def test_the_base_is_predicted_as_it_was_measured() -> None:
    found = TINY.predict(LANGUAGE.compose({"precision": "fp32", "threads": 1}))
    assert {name: found[name] for name in ("tpot_ms", "ttft_ms", "model_bytes")} == {
        name: BASE[name] for name in ("tpot_ms", "ttft_ms", "model_bytes")
    }
    assert found["perplexity_ratio"] == pytest.approx(1, abs=1e-4)


def test_a_layer_belongs_to_the_first_pass_that_stores_it() -> None:
    recipe = LANGUAGE.compose({**INT8, "activations": "int8", "dynamic_layers": "not_down", "reduce_range": False})
    kernels = {path: type(form).__name__ for path, (form, _) in layer_formats(recipe, LOSSES).items()}
    assert kernels == {PATHS[0]: "DynamicInt8", PATHS[1]: "BlockFormat", PATHS[2]: "BlockFormat"}
    assert recipe_kernels(recipe, LOSSES) == {DYNAMIC_INT8, Kernel(8, 32, 4, "float")}
    assert TINY.predict(recipe)["kl_divergence"] == pytest.approx(5 + 2, rel=1e-4)


def test_layers_with_a_range_a_token_have_a_loss_and_a_kernel_of_their_own() -> None:
    losses = {
        path: LayerLoss(path, 64, 32, BLOCKS, {f"{TOP}": 5.0, f"{TOP}/token": 0.5, f"{REDUCED_TOP}/token": 2.0})
        for path in PATHS
    }
    model = CostModel(losses, FakeClock(), prompt_tokens=10, new_tokens=3, base=BASE)
    dynamic: dict[str, Scalar] = {**INT8, "activations": "int8", "reduce_range": False}
    found = {}
    for word in ("token", "token_down"):
        recipe = LANGUAGE.compose({**dynamic, "activation_range": word})
        found[word] = model.predict(recipe)["kl_divergence"]
        assert DYNAMIC_INT8_BY_TOKEN in recipe_kernels(recipe, losses)
        assert (DYNAMIC_INT8 in recipe_kernels(recipe, losses)) == (word == "token_down")
    assert found == pytest.approx({"token": 0.5 + 0.5 + 1, "token_down": 5 + 0.5 + 1}, rel=1e-4)


def test_shares_of_a_mixed_model_are_predicted_by_its_own_allocation() -> None:
    mixed: dict[str, Scalar] = {**INT8, "precision": "mixed", "lm_head": "int8"}
    losses = [
        TINY.predict(LANGUAGE.compose({**mixed, "int8_share": share}))["kl_divergence"] for share in (0.0, 0.5, 1.0)
    ]
    assert losses == pytest.approx([2 * 289 + 1, 289 + 2, 3], rel=1e-4)


@pytest.mark.parametrize(
    ("space", "known"),
    [
        ({"precision": ["int8", "mixed"]}, True),
        ({"precision": ["int8"], "provider": ["cpu", "openvino"]}, False),
        ({"precision": ["fp16", "int4"], "provider": "cuda"}, False),
    ],
)
def test_only_what_runs_on_probed_kernels_is_predicted(space: dict[str, object], known: bool) -> None:
    assert predictable(parse_space(space, LANGUAGE)) is known
