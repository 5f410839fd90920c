"""Quality of tiny models whose next-token probabilities are known, against numbers computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from olivine.evaluators.data.windows import Window
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.messages import WindowScore
from olivine.evaluators.quality.text_quality import WHOLE_TEXT, QualityGateFailed, TextQuality, WindowSums

OpenProcess = Callable[..., ModelProcess]

# After the first token of each window come, under the base of conftest.py:
#   0 -> 1 (1/4), 1 -> 1 (4/5), 1 -> 2 (1/10)        and        2 -> 0 (3/10), 0 -> 0 (1/2), 0 -> 1 (1/4)
WINDOWS = (Window((0, 1, 1, 2), 3, 6), Window((2, 0, 0, 1), 3, 6))
# Under the candidate the row of token 1 is (6, 2, 2)/10 in place of (1, 8, 1)/10.
KL_AFTER_1 = 0.1 * math.log(0.1 / 0.6) + 0.8 * math.log(0.8 / 0.2) + 0.1 * math.log(0.1 / 0.2)


def measure(quality: TextQuality, candidate: ModelProcess, base: ModelProcess) -> dict[str, Measurement]:
    return {m.metric: m for m in quality.evaluate(candidate, base)}


@pytest.mark.parametrize("top_k", [512, 2])
def test_perplexity_kl_and_agreement_are_those_computed_by_hand(
    open_process: OpenProcess, base_folder: Path, candidate_folder: Path, tmp_path: Path, top_k: int
) -> None:
    measured = measure(
        TextQuality(WINDOWS, tmp_path, "b", top_k), open_process(candidate_folder), open_process(base_folder)
    )
    base = 1 / (0.25 * 0.8 * 0.1 * 0.3 * 0.5 * 0.25)
    candidate = 1 / (0.25 * 0.2 * 0.2 * 0.3 * 0.5 * 0.25)
    assert measured["perplexity"].value == pytest.approx(candidate ** (1 / 6), rel=1e-6)
    assert measured["perplexity_ratio"].value == pytest.approx((candidate / base) ** (1 / 6), rel=1e-6)
    assert measured["top1_agreement"].value == pytest.approx(4 / 6)
    assert measured["bits_per_byte"].value == pytest.approx(math.log2(candidate) / 12, rel=1e-6)
    if top_k >= 3:
        assert measured["kl_divergence"].value == pytest.approx(2 * KL_AFTER_1 / 6, rel=1e-5)
    else:  # tokens 1 and (0 or 2) are kept, the third is the bucket: here nothing is lost
        assert measured["kl_divergence"].value == pytest.approx(2 * KL_AFTER_1 / 6, rel=1e-5)
    assert measured["perplexity"].protocol["tokens"] == 6
    assert all(m.low <= m.value <= m.high for m in measured.values())


def test_the_base_against_itself_is_exactly_one(open_process: OpenProcess, base_folder: Path, tmp_path: Path) -> None:
    base = open_process(base_folder)
    measured = measure(TextQuality(WINDOWS, tmp_path, "b"), base, base)
    assert measured["perplexity_ratio"].value == measured["perplexity_ratio"].high == 1.0
    assert measured["kl_divergence"].value == 0.0
    assert measured["top1_agreement"].value == 1.0
    again = measure(TextQuality(WINDOWS, tmp_path, "b"), open_process(base_folder), base)
    assert again["perplexity"].value == pytest.approx(measured["perplexity"].value, rel=1e-7)
    assert again["kl_divergence"].value == pytest.approx(0.0, abs=1e-9)


def test_the_base_runs_once_per_text(open_process: OpenProcess, base_folder: Path, tmp_path: Path) -> None:
    base = open_process(base_folder)
    quality = TextQuality(WINDOWS, tmp_path, "b")
    quality.evaluate(base, base)
    stamp = quality.reference_path().stat().st_mtime_ns
    quality.evaluate(open_process(base_folder), base)
    assert [p.stat().st_mtime_ns for p in tmp_path.iterdir()] == [stamp]


def test_other_windows_or_another_base_are_another_file(tmp_path: Path) -> None:
    paths = {
        TextQuality(WINDOWS, tmp_path, "b").reference_path(),
        TextQuality(WINDOWS, tmp_path, "c").reference_path(),
        TextQuality(WINDOWS[:1], tmp_path, "b").reference_path(),
        TextQuality(WINDOWS, tmp_path, "b", top_k=2).reference_path(),
    }
    assert len(paths) == 4


def test_logits_that_are_not_finite_are_caught_in_the_candidate(
    open_process: OpenProcess, base_folder: Path, nan_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(QualityGateFailed, match="logits are not finite in window 1 of 2"):
        TextQuality(WINDOWS, tmp_path, "b").run(open_process(nan_folder), open_process(base_folder))


def test_a_base_without_finite_logits_is_no_base(open_process: OpenProcess, nan_folder: Path, tmp_path: Path) -> None:
    process = open_process(nan_folder)
    with pytest.raises(ModelProcessFailed, match="can't be the base of a study"):
        TextQuality(WINDOWS, tmp_path, "b").run(process, process)
    assert not list(tmp_path.iterdir())


class TableProcess:
    """A process whose candidate is worse by a fixed amount per token, with noise by window."""

    def __init__(self, worse: float, windows: int) -> None:
        self.noise = np.random.default_rng(0).normal(worse, 0.01, windows)
        self.scored = 0

    def reference(self, windows: list[tuple[tuple[int, ...], int]], path: Path, top_k: int) -> None:
        np.savez(path, **{f"nll_{n}": np.full(scored, 3.0) for n, (_, scored) in enumerate(windows)})

    def score(self, path: Path, window: int) -> WindowScore:
        self.scored += 1
        return WindowScore(nll=(3.0 + self.noise[window]) * 100, tokens=100, kl=5.0, agree=90, finite=True)


MANY = tuple(Window((n, *range(100)), 100, 400) for n in range(30))


def too_bad(sums: WindowSums) -> str | None:
    ratio = sums.bounds()["perplexity_ratio"]
    return f"perplexity_ratio is surely above {ratio.low:.3f}" if ratio.low > 1.05 else None


def test_a_clear_loser_is_stopped_after_three_windows(tmp_path: Path) -> None:
    process = TableProcess(worse=0.5, windows=30)
    result = TextQuality(MANY, tmp_path, "b", stop=too_bad).run(process, TableProcess(0, 30))
    assert process.scored == 3
    assert result.stopped is not None
    assert "surely above" in result.stopped
    assert {m.protocol["windows"] for m in result.measurements} == {3}
    assert result.measurements[0].protocol["stopped"] == result.stopped


class EasyStartProcess(TableProcess):
    """As :class:`TableProcess`, on a text whose first three windows are easier than the others by half a nat."""

    EASY = 0.5

    def reference(self, windows: list[tuple[tuple[int, ...], int]], path: Path, top_k: int) -> None:
        np.savez(path, **{f"nll_{n}": np.full(scored, self._hard(n)) for n, (_, scored) in enumerate(windows)})

    def score(self, path: Path, window: int) -> WindowScore:
        self.scored += 1
        nll = (self._hard(window) + self.noise[window]) * 100
        return WindowScore(nll=nll, tokens=100, kl=5.0, agree=90, finite=True)

    def _hard(self, window: int) -> float:
        return 3.0 - (self.EASY if window < 3 else 0.0)


def test_the_perplexity_of_a_stopped_candidate_is_the_one_it_was_stopped_for(tmp_path: Path) -> None:
    """Easy windows make its own look better than the base's on the whole text."""
    limit = 25.0

    def over(sums: WindowSums) -> str | None:
        return "surely broken" if sums.bounds()["perplexity"].low > limit else None

    base = math.exp((3 * 2.5 + 27 * 3.0) / 30)
    candidate = EasyStartProcess(worse=0.5, windows=30)
    result = TextQuality(MANY, tmp_path, "b", stop=over).run(candidate, EasyStartProcess(0, 30))
    measured = {m.metric: m for m in result.measurements}
    perplexity, ratio = measured["perplexity"], measured["perplexity_ratio"]
    assert candidate.scored == 3
    assert math.exp(2.5 + candidate.noise[:3].mean()) < limit < perplexity.value
    for mine, its in ((perplexity.value, ratio.value), (perplexity.low, ratio.low), (perplexity.high, ratio.high)):
        assert mine == pytest.approx(base * its)
    assert perplexity.samples == pytest.approx([base * sample for sample in ratio.samples], rel=1e-5)
    assert perplexity.protocol == ratio.protocol | {"estimate": WHOLE_TEXT}


def test_a_candidate_that_saw_the_whole_text_has_a_perplexity_of_its_own(tmp_path: Path) -> None:
    candidate = EasyStartProcess(worse=0.1, windows=30)
    measured = {m.metric: m for m in TextQuality(MANY, tmp_path, "b").evaluate(candidate, EasyStartProcess(0, 30))}
    assert measured["perplexity"].samples[0] == pytest.approx(math.exp(2.5 + candidate.noise[0]), rel=1e-5)
    assert "estimate" not in measured["perplexity"].protocol


def test_a_good_candidate_sees_all_windows(tmp_path: Path) -> None:
    process = TableProcess(worse=0.02, windows=30)
    result = TextQuality(MANY, tmp_path, "b", stop=too_bad).run(process, TableProcess(0, 30))
    assert process.scored == 30
    assert result.stopped is None
    ratio = next(m for m in result.measurements if m.metric == "perplexity_ratio")
    assert ratio.low < math.exp(0.02) < ratio.high
    assert len(ratio.samples) == 30


def test_measurements_are_plain_json(tmp_path: Path) -> None:
    import json

    result = TextQuality(MANY, tmp_path, "b").run(TableProcess(0.1, 30), TableProcess(0, 30))
    assert set(TextQuality.metrics) == {m.metric for m in result.measurements}
    json.dumps([m.to_dict() for m in result.measurements])
