"""Enumeration of a search space: how many candidates it has, and those that are left when a sampler finds none."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping
from itertools import islice

from olivine.passes.base import Scalar
from olivine.search.config.space import Space
from olivine.search.samplers.masks import NO_MASKS, Masks
from olivine.search.samplers.random_choices import chance_choices

#: Spaces up to this size are enumerated where that helps.
ENUMERABLE = 20_000
#: Draws from a space that can't be enumerated, before it counts as exhausted.
ENDLESS_DRAWS = 1000


def hash_seed(*parts: int) -> int:
    """Hash several numbers to one 32-bit seed, the same in every process."""
    return random.Random(":".join(map(str, parts))).getrandbits(32)


def count_candidates(
    space: Space, limit: int = ENUMERABLE, masks: Masks = NO_MASKS, uncounted: Collection[str] = ()
) -> int | None:
    """Count the distinct recipes that are not masked; None for an endless space, or more than ``limit`` choices.

    Args:
        space: the search space.
        limit: most choices that are enumerated.
        masks: kernels whose candidates are not proposed.
        uncounted: keys of recipes that are measured anyway.
    """
    choices = space.enumerate()
    if choices is None:
        return None
    keys = set()
    for count, choice in enumerate(choices):
        if count >= limit:
            return None
        recipe = space.catalog.compose(choice)
        if masks.reason(recipe) is None:
            keys.add(recipe.key)
    return len(keys.difference(uncounted))


def find_choice(
    space: Space, wanted: Callable[[Mapping[str, Scalar]], bool], seed: int, in_order: bool
) -> dict[str, Scalar] | None:
    """Find a choice that is ``wanted``; None where there is none.

    Args:
        space: the search space.
        wanted: whether a choice will do.
        seed: of the draw.
        in_order: take the first; else one at random. Of a space that can't be enumerated, always the first of many
            random choices.
    """
    choices = space.enumerate()
    if choices is None:
        in_order, choices = True, chance_choices(space, ENDLESS_DRAWS, seed)
    fitting = filter(wanted, islice(choices, ENUMERABLE))
    rest = list(islice(fitting, 1) if in_order else fitting)
    return random.Random(seed).choice(rest) if rest else None
