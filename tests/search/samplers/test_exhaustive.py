from __future__ import annotations

from olivine.passes.catalog import LANGUAGE
from olivine.passes.kernel import Kernel
from olivine.search.config.space import parse_space
from olivine.search.samplers.exhaustive import count_candidates, find_choice, hash_seed
from olivine.search.samplers.masks import Masks

SPACE = parse_space(
    {
        "precision": ["int8", "int4"],
        "block_size": [16, 32, 64, 128],
        "lm_head": ["same", "fp32"],
        "fusion_level": ["none", "qkv", "full"],
    },
    LANGUAGE,
)
MASKS = Masks({Kernel(8, 32, 0, "float"): "slow"})


def test_seeds_are_32_bits_and_stable() -> None:
    assert hash_seed(0, 1, 2) == hash_seed(0, 1, 2)
    assert len({hash_seed(0, number, attempt) for number in range(30) for attempt in range(30)}) == 900
    assert all(0 <= hash_seed(0, number) < 2**32 for number in range(100))


def test_counting_stops_at_the_limit() -> None:
    assert count_candidates(SPACE, limit=10) is None
    assert count_candidates(SPACE, limit=48) == 48


def test_masked_candidates_are_not_counted() -> None:
    space = parse_space({"precision": ["int8", "int4"], "accuracy_level": [0, 4], "lm_head": "same"}, LANGUAGE)
    assert (count_candidates(space), count_candidates(space, masks=MASKS)) == (4, 3)


def test_recipes_that_are_measured_anyway_are_not_counted() -> None:
    base = LANGUAGE.compose({"precision": "int8", "block_size": 32})
    assert count_candidates(SPACE, uncounted=[base.key, "elsewhere"]) == 47


def test_an_endless_space_is_not_counted() -> None:
    space = parse_space({"precision": "mixed", "int8_share": {"low": 0.0, "high": 1.0}}, LANGUAGE)
    assert count_candidates(space) is None


def test_a_choice_is_found_in_order_or_at_random_as_long_as_one_is_wanted() -> None:
    wanted = [choice for choice in SPACE.enumerate() or () if choice["block_size"] == 64]
    assert find_choice(SPACE, lambda choice: choice in wanted, seed=0, in_order=True) == wanted[0]
    drawn = [find_choice(SPACE, lambda choice: choice in wanted, seed, in_order=False) for seed in range(20)]
    assert all(choice in wanted for choice in drawn)
    assert any(choice != wanted[0] for choice in drawn)
    assert find_choice(SPACE, lambda choice: False, seed=0, in_order=False) is None
