from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from olivine.evaluators.process.messages import OutputScore
from olivine.evaluators.quality.output_fidelity import Fidelity, concordance

RNG = np.random.default_rng(0)


class ValueProcess:
    """Answers each feed with one value of an array."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        np.savez(path, **{str(i): self.values[i].reshape(1, 1) for i in range(count)})

    def compare(
        self, feeds: Path, number: int, stored: Path, output: str | None, logits: bool, apart: bool = False
    ) -> OutputScore:
        return OutputScore(1.0, 0.0, 1.0, finite=True)


def distance(base: np.ndarray, own: np.ndarray, folder: Path) -> float:
    fidelity = Fidelity(folder / "feeds.npz", len(base), folder, "base")
    (measured,) = fidelity.evaluate(ValueProcess(own), ValueProcess(base))
    assert measured.low <= measured.value <= measured.high
    return measured.value


def test_values_are_compared_over_all_samples(tmp_path: Path) -> None:
    values = RNG.normal(size=30)
    assert distance(values, values, tmp_path) == 0
    # Lin's coefficient of values scaled by c around mean 0: 2 c / (1 + c^2), here of 2.
    centred = values - values.mean()
    assert concordance(centred, 2 * centred) == pytest.approx(0.8)


def test_a_shift_and_a_sign_count(tmp_path: Path) -> None:
    values = RNG.normal(size=30)
    for n, own in enumerate((values + 1, -values)):
        (tmp_path / str(n)).mkdir()
        assert distance(values, own, tmp_path / str(n)) > 0.3


def test_a_constant_tells_nothing() -> None:
    assert concordance(np.ones(4), np.arange(4.0)) == 0
