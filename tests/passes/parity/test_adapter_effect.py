"""The verdict on an adapter's effect: what a graph's own loss explains, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from olivine.passes.parity.adapter_effect import AdapterEffect

#: As measured on the demo model in int8, with an adapter that fits.
FITS = AdapterEffect(
    added=2.84, error=0.451, base_error=0.128, cosine=0.988, size=1.0, kl_divergence=0.068, base_kl_divergence=0.004
)


@pytest.mark.parametrize(
    ("changes", "explained"),
    [
        ({}, True),
        ({"error": 0.54}, True),  # 4 * 0.128 + 0.01 * 2.84 = 0.5404
        ({"error": 0.541}, False),
        ({"error": float("nan")}, False),
        ({"added": 1.18, "error": 1.393, "cosine": 0.435}, False),  # other channels, int8
        ({"added": 0.365, "error": 1.609, "base_error": 1.61, "cosine": 0.479}, True),  # int4
        ({"added": 0.365, "error": 1.679, "base_error": 1.61, "cosine": 0.067}, False),  # other channels, int4
        ({"added": 0.08, "error": 1.61, "base_error": 1.61, "cosine": 0.0}, True),  # too small to tell
        ({"added": 0.0, "error": 0.128, "cosine": 0.0, "size": 0.0}, True),  # untrained
        ({"size": 1.5, "cosine": 0.9}, False),
        ({"size": 0.69}, False),
        ({"added": 2.0, "error": 2.0, "base_error": 2.0, "size": 1.83, "cosine": 0.75}, True),  # 1.96 + 1.5 = 1.86^2
        ({"added": 2.0, "error": 2.0, "base_error": 2.0, "size": 1.87, "cosine": 0.7}, False),
        ({"added": 2.0, "error": 2.0, "base_error": 2.0, "size": 1.8, "cosine": 0.8}, False),  # slope 1.44
        ({"added": 0.5, "error": 2.0, "base_error": 2.0, "size": 1.8, "cosine": 0.8}, True),  # too small for a slope
        ({"added": 0.2, "error": 2.0, "base_error": 2.0, "size": 9.0, "cosine": 0.1}, True),  # activations in int8
        ({"added": 0.2, "error": 2.0, "base_error": 2.0, "size": 9.0, "cosine": 0.03}, False),
    ],
)
def test_an_effect_is_explained_by_the_loss_of_the_graph_or_not(changes: dict[str, float], explained: bool) -> None:
    assert replace(FITS, **changes).explained == explained
