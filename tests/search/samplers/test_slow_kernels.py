"""Slow kernels by made-up times; the masks and the plan that a study makes of them."""

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
from olivine.passes.errors import BuildFailed
from olivine.passes.kernel import DYNAMIC_INT8, FLOAT, Kernel
from olivine.search.planning.plan import make_plan, plan_table
from olivine.search.samplers.slow_kernels import choose_masks, find_slow_kernels

LAYERS = [(64, 64)] * 3 + [(64, 128)]
PROMPT = 16
GOOD4, GOOD8 = Kernel(4, 32, 4, "float"), Kernel(8, 32, 4, "float")
SLOW8 = Kernel(8, 32, 0, "float")


def times(decode: dict[Kernel, float], prefill: dict[Kernel, float] | None = None, **more: Any) -> KernelTimes:
    """Times of a 64 x 64 product; that of 64 x 128 is twice as long."""
    products = {Product(kernel, 64, 64, 1): ms for kernel, ms in decode.items()}
    products |= {Product(kernel, 64, 64, PROMPT): (prefill or {}).get(kernel, 9.0) for kernel in decode}
    return KernelTimes(products, 1, "1.31.1", **more)


def slow_kernels(decode: dict[Kernel, float], **more: Any) -> dict[Kernel, str]:
    return find_slow_kernels(times(decode, **more), LAYERS, decode, PROMPT)


def test_a_kernel_slower_than_float_is_slow_with_its_figures() -> None:
    reasons = slow_kernels({FLOAT: 1.0, GOOD8: 0.4, SLOW8: 5.0})
    assert reasons == {SLOW8: "int8 blocks of 32 at accuracy_level 0 decodes at 0.2x of fp32 on this machine"}


def test_a_kernel_as_fast_as_float_within_the_error_of_the_probe_is_none() -> None:
    assert slow_kernels({FLOAT: 1.0, GOOD8: 1.05}) == {}
    assert set(slow_kernels({FLOAT: 1.0, GOOD8: 1.15})) == {GOOD8}


def test_far_slower_than_another_of_the_same_width_is_slow() -> None:
    slow = Kernel(4, 32, 0, "float")
    reasons = slow_kernels({FLOAT: 1.0, GOOD4: 0.2, slow: 0.65})
    assert reasons == {
        slow: "int4 blocks of 32 at accuracy_level 0 decodes 3.2 times slower than "
        "int4 blocks of 32 at accuracy_level 4 on this machine"
    }
    assert slow_kernels({FLOAT: 1.0, GOOD4: 0.2, slow: 0.55}) == {}


def test_small_blocks_may_be_slower_than_large_ones_and_not_the_other_way_round() -> None:
    small, large = Kernel(4, 16, 4, "float"), Kernel(4, 128, 4, "float")
    assert slow_kernels({FLOAT: 1.0, small: 0.5, large: 0.1}) == {}
    assert set(slow_kernels({FLOAT: 1.0, small: 0.1, large: 0.5})) == {large}


def test_other_widths_are_no_rivals() -> None:
    assert slow_kernels({FLOAT: 1.0, GOOD4: 0.1, GOOD8: 0.5}) == {}


def test_dynamic_int8_is_judged_by_the_prompt() -> None:
    decode = {FLOAT: 1.0, DYNAMIC_INT8: 1.5}
    assert slow_kernels(decode, prefill={FLOAT: 9.0, DYNAMIC_INT8: 4.0}) == {}
    assert set(slow_kernels(decode, prefill={FLOAT: 9.0, DYNAMIC_INT8: 10.0})) == {DYNAMIC_INT8}


def test_what_does_not_run_is_slow_with_the_runtimes_words() -> None:
    two = Kernel(2, 32, 4, "float")
    reasons = slow_kernels({FLOAT: 1.0, GOOD4: 0.3, two: math.inf}, failures={two: "bits is 2"})
    assert reasons == {two: "int2 blocks of 32 at accuracy_level 4 does not run here: bits is 2"}


@given(st.dictionaries(st.sampled_from([GOOD4, GOOD8, SLOW8, Kernel(4, 128, 0, "float")]), st.floats(0.01, 100)))
def test_float_and_the_fastest_of_all_are_never_masked(decode: dict[Kernel, float]) -> None:
    decode = {FLOAT: 1.0, **decode}
    reasons = slow_kernels(decode)
    assert FLOAT not in reasons
    assert min(decode, key=lambda kernel: decode[kernel]) not in reasons


class FakeProbe:
    """Stands for the probe: int8 at accuracy_level 0 is slow."""

    def __init__(self) -> None:
        self.calls: list[tuple[Sequence[Any], Sequence[Kernel], Sequence[int], int]] = []

    def __call__(self, shapes: Any, kernels: Any, tokens: Any, *, threads: int, cache: Path) -> KernelTimes:
        self.calls.append((shapes, kernels, tokens, threads))
        slow = {one: 5.0 if one.bits == 8 and one.accuracy_level == 0 else 0.5 for one in kernels} | {FLOAT: 1.0}
        return KernelTimes(
            {Product(one, k, n, m): ms for one, ms in slow.items() for k, n in shapes for m in tokens}, threads, "1"
        )


SPACE = {"precision": ["int8", "int4"], "accuracy_level": [0, 4], "block_size": 32, "threads": 1}


def config(model: object, space: dict[str, Any], tmp_path: Path, **changes: Any) -> Any:
    return tiny_config(Path(str(model)), write_text(tmp_path / "text.txt"), space=space, kernel_probe=True, **changes)


def test_the_kernels_of_the_space_are_probed_at_decode_and_prompt(tmp_path: Path) -> None:
    probe = FakeProbe()
    masks = choose_masks(config("m", SPACE, tmp_path), LAYERS, tmp_path, probe)
    ((shapes, kernels, tokens, threads),) = probe.calls
    assert (shapes, set(tokens), threads) == (LAYERS, {1, 8}, 1)
    assert set(kernels) == {FLOAT} | {Kernel(bits, 32, level, "float") for bits in (4, 8) for level in (0, 4)}
    assert set(masks.slow_kernels) == {SLOW8}


def test_kernels_are_judged_at_the_length_of_the_prompt_that_is_timed(tmp_path: Path) -> None:
    probe = FakeProbe()
    choose_masks(config("m", SPACE, tmp_path), LAYERS, tmp_path, probe, prompt_tokens=23)
    assert set(probe.calls[0][2]) == {1, 23}


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"kernel_probe": False}, "off"),
        ({"objectives": ("model_bytes", "perplexity_ratio")}, "is a time"),
        ({"space": {"provider": "webgpu", "precision": "int4"}}, "cpu alone"),
        ({"space": {"precision": "fp32", "fusion_level": ["qkv", "full"]}}, ""),
    ],
)
def test_nothing_is_probed_where_nothing_could_be_masked(changes: dict[str, Any], note: str, tmp_path: Path) -> None:
    probe = FakeProbe()
    masks = choose_masks(config("m", SPACE, tmp_path).model_copy(update=changes), LAYERS, tmp_path, probe)
    assert (probe.calls, masks.slow_kernels) == ([], {})
    assert note in masks.note


def test_a_space_of_slow_kernels_alone_is_searched_as_it_is(tmp_path: Path) -> None:
    space = SPACE | {"precision": "int8", "accuracy_level": 0, "lm_head": ["same", "int8"]}
    masks = choose_masks(config("m", space, tmp_path), LAYERS, tmp_path, FakeProbe())
    assert masks.slow_kernels == {}
    assert "no candidate would be left" in masks.note
    assert "0.2x of fp32" in masks.note


def test_a_probe_that_fails_masks_nothing_and_says_so(tmp_path: Path) -> None:
    def fails(*_: object, **__: object) -> KernelTimes:
        raise BuildFailed("the kernel probe ended with exit code 139")

    masks = choose_masks(config("m", SPACE, tmp_path), LAYERS, tmp_path, fails)
    assert (masks.slow_kernels, masks.note) == ({}, "no kernel is masked: the kernel probe ended with exit code 139")


def test_the_plan_shows_reasons_and_counts_what_is_left(tmp_path: Path, tiny_llama: Path) -> None:
    plan = make_plan(config(tiny_llama, SPACE, tmp_path), probe=FakeProbe())
    assert (plan.candidates, plan.proposed, plan.trials) == (4, 3, 3)
    console = Console(file=io.StringIO(), width=200)
    console.print(plan_table(plan))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "int8 blocks of 32 at accuracy_level 0 decodes at 0.2x of fp32 on this machine" in text
    assert "3: those that need none of these kernels" in text
