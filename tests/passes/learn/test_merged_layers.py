from __future__ import annotations

import pytest

from olivine.passes.learn.merged_layers import Piece, pieces

UNFUSED = {
    "layers.0/q_proj": 8,
    "layers.0/k_proj": 4,
    "layers.0/v_proj": 2,
    "layers.0/gate_proj": 16,
    "layers.0/up_proj": 16,
    "lm_head": 50,
}
USUAL = {"layers.0/qkv_proj": 14, "layers.0/gate_proj": 16, "layers.0/up_proj": 16, "lm_head": 50}
FULL = {"layers.0/qkv_proj": 14, "layers.0/gate_up_proj": 32, "lm_head": 50}


def test_a_merged_layer_is_made_of_what_it_merges_in_order() -> None:
    assert pieces("layers.0/gate_up_proj", FULL, USUAL) == (
        Piece("layers.0/gate_proj", 0, 16),
        Piece("layers.0/up_proj", 0, 16),
    )
    assert pieces("layers.0/qkv_proj", USUAL, UNFUSED) == (
        Piece("layers.0/q_proj", 0, 8),
        Piece("layers.0/k_proj", 0, 4),
        Piece("layers.0/v_proj", 0, 2),
    )


@pytest.mark.parametrize(("role", "start", "stop"), [("q_proj", 0, 8), ("k_proj", 8, 12), ("v_proj", 12, 14)])
def test_a_layer_is_cut_from_the_one_that_it_is_merged_into(role: str, start: int, stop: int) -> None:
    assert pieces(f"layers.0/{role}", UNFUSED, USUAL) == (Piece("layers.0/qkv_proj", start, stop),)


def test_a_layer_that_stands_alone_in_both_is_itself() -> None:
    assert pieces("lm_head", FULL, USUAL) == (Piece("lm_head", 0, 50),)


def test_a_layer_of_another_size_is_not_found() -> None:
    assert pieces("layers.0/gate_up_proj", {**FULL, "layers.0/gate_up_proj": 31}, USUAL) is None
    assert pieces("layers.0/q_proj", {**UNFUSED, "layers.0/v_proj": 3}, USUAL) is None
    assert pieces("layers.1/o_proj", {"layers.1/o_proj": 8}, USUAL) is None
