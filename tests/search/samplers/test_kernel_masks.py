"""Cliffs and masks by made-up times; what a study and its plan make of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tiny_study import tiny_config, write_text

from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import BuildFailed
from olivine.passes.graph import linears, load_graph
from olivine.passes.kernel import DYNAMIC_INT8, FLOAT, Kernel
from olivine.passes.sources.model_shape import config_shapes
from olivine.passes.sources.source import resolve
from olivine.search.config.space import parse_space
from olivine.search.planning.plan import make_plan, plan_table
from olivine.search.samplers import kernel_masks
from olivine.search.samplers.kernel_masks import KernelMasks, choose_masks, find_cliffs
from olivine.search.samplers.proposer import count_candidates
from olivine.search.samplers.random_choices import sample_choices

LAYERS = [(64, 64)] * 3 + [(64, 128)]
PROMPT = 16
GOOD4, GOOD8 = Kernel(4, 32, 4, "float"), Kernel(8, 32, 4, "float")
SLOW8 = Kernel(8, 32, 0, "float")


def times(decode: dict[Kernel, float], prefill: dict[Kernel, float] | None = None, **more: Any) -> KernelTimes:
    """Times of a 64 x 64 product; that of 64 x 128 is twice as long."""
    found = {Product(kernel, 64, 64, 1): ms for kernel, ms in decode.items()}
    found |= {Product(kernel, 64, 64, PROMPT): (prefill or {}).get(kernel, 9.0) for kernel in decode}
    return KernelTimes(found, 1, "1.31.1", **more)


def cliffs(decode: dict[Kernel, float], **more: Any) -> dict[Kernel, str]:
    return find_cliffs(times(decode, **more), LAYERS, decode, PROMPT)


def test_a_kernel_slower_than_float_is_a_cliff_with_its_figures() -> None:
    found = cliffs({FLOAT: 1.0, GOOD8: 0.4, SLOW8: 5.0})
    assert found == {SLOW8: "int8 blocks of 32 at accuracy_level 0 decodes at 0.2x of fp32 on this machine"}


def test_a_kernel_as_fast_as_float_within_the_error_of_the_probe_is_none() -> None:
    assert cliffs({FLOAT: 1.0, GOOD8: 1.05}) == {}
    assert set(cliffs({FLOAT: 1.0, GOOD8: 1.15})) == {GOOD8}


def test_far_slower_than_another_of_the_same_width_is_a_cliff() -> None:
    slow = Kernel(4, 32, 0, "float")
    found = cliffs({FLOAT: 1.0, GOOD4: 0.2, slow: 0.65})
    assert found == {
        slow: "int4 blocks of 32 at accuracy_level 0 decodes 3.2 times slower than "
        "int4 blocks of 32 at accuracy_level 4 on this machine"
    }
    assert cliffs({FLOAT: 1.0, GOOD4: 0.2, slow: 0.55}) == {}


def test_small_blocks_may_be_slower_than_large_ones_and_not_the_other_way_round() -> None:
    small, large = Kernel(4, 16, 4, "float"), Kernel(4, 128, 4, "float")
    assert cliffs({FLOAT: 1.0, small: 0.5, large: 0.1}) == {}
    assert set(cliffs({FLOAT: 1.0, small: 0.1, large: 0.5})) == {large}


def test_other_widths_are_no_rivals() -> None:
    assert cliffs({FLOAT: 1.0, GOOD4: 0.1, GOOD8: 0.5}) == {}


def test_dynamic_int8_is_judged_by_the_prompt() -> None:
    decode = {FLOAT: 1.0, DYNAMIC_INT8: 1.5}
    assert cliffs(decode, prefill={FLOAT: 9.0, DYNAMIC_INT8: 4.0}) == {}
    assert set(cliffs(decode, prefill={FLOAT: 9.0, DYNAMIC_INT8: 10.0})) == {DYNAMIC_INT8}


def test_what_does_not_run_is_a_cliff_with_the_runtimes_words() -> None:
    two = Kernel(2, 32, 4, "float")
    found = cliffs({FLOAT: 1.0, GOOD4: 0.3, two: math.inf}, failures={two: "bits is 2"})
    assert found == {two: "int2 blocks of 32 at accuracy_level 4 does not run here: bits is 2"}


@given(st.dictionaries(st.sampled_from([GOOD4, GOOD8, SLOW8, Kernel(4, 128, 0, "float")]), st.floats(0.01, 100)))
def test_float_and_the_fastest_of_all_are_never_masked(decode: dict[Kernel, float]) -> None:
    decode = {FLOAT: 1.0, **decode}
    found = cliffs(decode)
    assert FLOAT not in found
    assert min(decode, key=lambda kernel: decode[kernel]) not in found


MASKS = KernelMasks({SLOW8: "slow"})


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        ({"precision": "fp32"}, None),
        ({"precision": "int8", "accuracy_level": 4}, None),
        ({"precision": "int8", "accuracy_level": 0}, "slow"),
        ({"precision": "int8", "accuracy_level": 0, "block_size": 64}, None),
        ({"precision": "int4", "accuracy_level": 0}, None),
        ({"precision": "int4", "accuracy_level": 0, "lm_head": "int8"}, "slow"),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 32}, "slow"),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 64}, None),
        ({"precision": "mixed", "accuracy_level": 0, "int8_block_size": 32, "int8_share": 0.0}, None),
        ({"provider": "webgpu", "precision": "int8", "accuracy_level": 0}, None),
    ],
)
def test_a_choice_is_masked_where_it_needs_a_slow_kernel(choice: dict[str, Any], reason: str | None) -> None:
    assert MASKS.reason(LANGUAGE.canonical(choice)) == reason


def test_int8_activations_need_their_kernel_beside_that_of_the_other_layers() -> None:
    choice = {"precision": "int4", "activations": "int8", "lm_head": "fp32"}
    assert LANGUAGE.compose(choice).kernels == {DYNAMIC_INT8, GOOD4}
    assert LANGUAGE.compose({"precision": "mixed", "activations": "int8"}).kernels >= {DYNAMIC_INT8, GOOD4}


def test_masks_survive_a_file(tmp_path: Path) -> None:
    assert KernelMasks.read(tmp_path / "none") == KernelMasks()
    for masks in (KernelMasks({SLOW8: "slow"}, times=times({FLOAT: 1.0})), KernelMasks(note="off")):
        masks.write(tmp_path / "kernels.json")
        assert KernelMasks.read(tmp_path / "kernels.json") == masks


def test_masked_candidates_are_not_counted() -> None:
    space = parse_space({"precision": ["int8", "int4"], "accuracy_level": [0, 4], "lm_head": "same"}, LANGUAGE)
    assert (count_candidates(space), count_candidates(space, masks=MASKS)) == (4, 3)


def test_shapes_of_the_graph_are_those_that_its_config_tells(tiny_llama: Path, tiny_onnx: Path) -> None:
    graph = [layer.shape for layer in linears(load_graph(tiny_onnx / "model.onnx"))]
    assert sorted(graph) == sorted(config_shapes(resolve(str(tiny_llama))))


def test_shapes_of_the_demo_and_of_an_unknown_model() -> None:
    demo = config_shapes(resolve("demo:smollm2-135m-instruct"))
    assert demo[:5] == [(576, 960), (576, 576), (576, 1536), (576, 1536), (1536, 576)]
    assert (len(demo), demo[-1]) == (151, (576, 49152))
    assert len(config_shapes(None)) == 16 * 5 + 1


class Fake:
    """Stands for the probe: int8 at accuracy_level 0 is a cliff."""

    def __init__(self) -> None:
        self.asked: list[tuple[Sequence[Any], Sequence[Kernel], Sequence[int], int]] = []

    def __call__(self, shapes: Any, kernels: Any, tokens: Any, *, threads: int, cache: Path) -> KernelTimes:
        self.asked.append((shapes, kernels, tokens, threads))
        slow = {one: 5.0 if one.bits == 8 and one.accuracy_level == 0 else 0.5 for one in kernels} | {FLOAT: 1.0}
        return KernelTimes(
            {Product(one, k, n, m): ms for one, ms in slow.items() for k, n in shapes for m in tokens}, threads, "1"
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    probe = Fake()
    monkeypatch.setattr(kernel_masks, "probe_kernels", probe)
    return probe


SPACE = {"precision": ["int8", "int4"], "accuracy_level": [0, 4], "block_size": 32, "threads": 1}


def config(model: object, space: dict[str, Any], tmp_path: Path, **changes: Any) -> Any:
    return tiny_config(Path(str(model)), write_text(tmp_path / "text.txt"), space=space, kernel_probe=True, **changes)


def masks_of(asked: Any, cache: Path) -> KernelMasks:
    return choose_masks(asked, sample_choices(asked.search_space()), LAYERS, cache)


def test_the_kernels_of_the_space_are_probed_at_decode_and_prompt(fake: Fake, tmp_path: Path) -> None:
    masks = masks_of(config("m", SPACE, tmp_path), tmp_path)
    ((shapes, kernels, tokens, threads),) = fake.asked
    assert (shapes, set(tokens), threads) == (LAYERS, {1, 8}, 1)
    assert set(kernels) == {FLOAT} | {Kernel(bits, 32, level, "float") for bits in (4, 8) for level in (0, 4)}
    assert set(masks.cliffs) == {SLOW8}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"kernel_probe": False}, "off"),
        ({"objectives": ("model_bytes", "perplexity_ratio")}, "is a time"),
        ({"space": {"provider": "webgpu", "precision": "int4"}}, "cpu alone"),
        ({"space": {"precision": "fp32", "fusion_level": ["qkv", "full"]}}, ""),
    ],
)
def test_nothing_is_probed_where_nothing_could_be_masked(
    changes: dict[str, Any], note: str, fake: Fake, tmp_path: Path
) -> None:
    asked = config("m", SPACE, tmp_path).model_copy(update=changes)
    masks = masks_of(asked, tmp_path)
    assert (fake.asked, masks.cliffs) == ([], {})
    assert note in masks.note


def test_a_space_of_slow_kernels_alone_is_searched_as_it_was_asked_for(fake: Fake, tmp_path: Path) -> None:
    space = SPACE | {"precision": "int8", "accuracy_level": 0, "lm_head": ["same", "int8"]}
    masks = masks_of(config("m", space, tmp_path), tmp_path)
    assert masks.cliffs == {}
    assert "no candidate would be left" in masks.note
    assert "0.2x of fp32" in masks.note


def test_a_probe_that_fails_masks_nothing_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise BuildFailed("the kernel probe ended with exit code 139")

    monkeypatch.setattr(kernel_masks, "probe_kernels", fails)
    masks = masks_of(config("m", SPACE, tmp_path), tmp_path)
    assert (masks.cliffs, masks.note) == ({}, "no kernel is masked: the kernel probe ended with exit code 139")


def test_the_plan_shows_reasons_and_counts_what_is_left(fake: Fake, tmp_path: Path, tiny_llama: Path) -> None:
    plan = make_plan(config(tiny_llama, SPACE, tmp_path))
    assert (plan.candidates, plan.proposed, plan.trials) == (4, 3, 3)
    console = Console(file=io.StringIO(), width=200)
    console.print(plan_table(plan))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "int8 blocks of 32 at accuracy_level 0 decodes at 0.2x of fp32 on this machine" in text
    assert "3: those that need none of these kernels" in text
