"""Whole answers: one metric for candidates that guess and that do not, by times that are known."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from simulated_cores import simulated_cores
from simulated_process import Machine, SimulatedProcess

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.messages import TimedAnswer
from olivine.evaluators.scenario.answers import ROUNDS, AnswerLatency
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS, MOST_ANSWERS, Prompt, split_prompts
from olivine.search.selection.racing import combined

PROMPTS = tuple((3,) * n for n in range(20, 26))


class Guesser(SimulatedProcess):
    """Answers of 40 tokens; guesses of the folder's own kind make one ``gain`` times as fast, by prompt."""

    def __init__(self, machine: Machine, folder: Path, gains: Sequence[float], length: int = 40) -> None:
        super().__init__(machine, 50.0, 5.0)
        self.folder, self.gains, self.length = folder, gains, length
        self.short: set[int] = set()
        self.hiccup = -1
        self.asked: list[tuple[int, int, int]] = []

    def answer(self, tokens: Sequence[int], most: int, ngram_size: int = 0, max_draft_tokens: int = 4) -> TimedAnswer:
        self.asked.append((len(tokens), ngram_size, max_draft_tokens))
        length = 5 if len(tokens) in self.short else min(self.length, most)
        slow = 10.0 if len(self.asked) == self.hiccup else 1.0
        gain = self.gains[len(tokens) % len(self.gains)] if ngram_size else 1.0
        accepted = length // 2 if ngram_size else 0
        return TimedAnswer(list(range(length)), 5.0 * (length - 1) / gain * slow, accepted, accepted)


def folder_with(root: Path, **speculative: int) -> Path:
    root.mkdir()
    config: dict[str, Any] = {"model": {"decoder": {}}, **({"speculative": speculative} if speculative else {})}
    (root / "genai_config.json").write_text(json.dumps(config))
    return root


def measure(
    folder: Path, gains: Sequence[float] = (2.0,), short: Iterable[int] = (), hiccup: int = -1
) -> dict[str, Measurement]:
    machine = Machine(0, 0.0)
    steps = PairedDecoderLatency(clock=lambda: machine.now, core_watch=simulated_cores(), new_tokens=64)
    candidate = Guesser(machine, folder, gains)
    candidate.short, candidate.hiccup = set(short), hiccup
    base = Guesser(machine, folder, (1.0,))
    base.step_ms, base.prefill_ms, base.folder = 10.0, 100.0, None
    measured = {m.metric: m for m in AnswerLatency(steps, PROMPTS).evaluate(candidate, base)}
    assert base.asked == []
    measured["asked"] = candidate.asked  # type: ignore[assignment]
    return measured


def test_a_candidate_without_guesses_keeps_its_times_and_gives_a_token_a_step(tmp_path: Path) -> None:
    measured = measure(folder_with(tmp_path / "plain"))
    assert measured.pop("asked") == []
    assert measured["tpot_speedup"].value == pytest.approx(2.0)
    assert measured["tokens_per_step"].value == 1.0
    assert "guesses" not in measured["tpot_ms"].protocol


def test_guesses_multiply_the_speedup_of_a_step_and_end_to_end_follows(tmp_path: Path) -> None:
    measured = measure(folder_with(tmp_path / "guessing", ngram_size=3, max_draft_tokens=6))
    asked = measured.pop("asked")
    assert measured["tpot_speedup"].value == pytest.approx(4.0)
    assert measured["tpot_ms"].value == pytest.approx(2.5)
    assert measured["decode_tok_s"].value == pytest.approx(400.0)
    assert measured["ttft_speedup"].value == pytest.approx(2.0)
    assert measured["e2e_ms"].value == pytest.approx(50 + 63 * 2.5)
    assert measured["e2e_speedup"].value == pytest.approx((100 + 63 * 10) / (50 + 63 * 2.5))
    assert measured["tokens_per_step"].value == pytest.approx(2.0)
    about = measured["tpot_ms"].protocol["guesses"]
    assert (about["gain"], about["same_answers"], about["prompts"]) == (2.0, 6, 6)
    assert (about["ngram_size"], about["max_draft_tokens"]) == (3, 6)
    own = [(3, 6), (0, 4)] * ROUNDS
    assert sorted(asked[1:]) == sorted((n, *way) for n in range(20, 26) for way in own)  # type: ignore[index]


def test_a_reference_that_guesses_is_as_fast_as_it_guesses(tmp_path: Path) -> None:
    machine = Machine(0, 0.0)
    steps = PairedDecoderLatency(clock=lambda: machine.now, core_watch=simulated_cores(), new_tokens=64)
    guessing = Guesser(machine, folder_with(tmp_path / "guessing", ngram_size=3), (2.0,))
    plain = Guesser(machine, folder_with(tmp_path / "plain"), (1.0,))
    latency = AnswerLatency(steps, PROMPTS)
    beside = {m.metric: m for m in latency.evaluate(plain, guessing)}
    assert beside["tpot_speedup"].value == pytest.approx(0.5)
    assert beside["tpot_ms"].value == pytest.approx(5.0)
    assert beside["e2e_speedup"].value == pytest.approx((50 + 63 * 2.5) / (50 + 63 * 5))
    assert beside["tpot_speedup"].protocol["reference_guesses"]["gain"] == 2.0
    alone = {m.metric: m for m in latency.evaluate(guessing, guessing)}
    assert (alone["tpot_speedup"].value, alone["e2e_speedup"].value) == (1.0, 1.0)
    assert alone["tpot_ms"].value == pytest.approx(2.5)
    assert alone["e2e_ms"].value == pytest.approx(50 + 63 * 2.5)
    both = {m.metric: m for m in latency.evaluate(Guesser(machine, guessing.folder, (2.0,)), guessing)}  # type: ignore[arg-type]
    assert both["tpot_speedup"].value == pytest.approx(1.0)


def test_the_interval_holds_what_prompts_differ_by_and_timing_again_does_not_narrow_it(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "guessing", ngram_size=2)
    even, mixed = measure(folder)["tpot_speedup"], measure(folder, (1.0, 4.0))["tpot_speedup"]
    assert even.value == pytest.approx(mixed.value)
    assert mixed.low < 2.2 < 5.5 < mixed.high
    again = combined(mixed, mixed)
    assert math.log(again.high / again.low) == pytest.approx(math.log(mixed.high / mixed.low), rel=0.05)
    e2e = measure(folder, (1.0, 4.0))["e2e_speedup"]
    assert 1 < e2e.high / e2e.low < mixed.high / mixed.low


def test_answers_too_short_to_tell_anything_count_as_no_gain_and_are_told_of(tmp_path: Path) -> None:
    for name, long in (("none", ()), ("one", (22,))):
        measured = measure(folder_with(tmp_path / name, ngram_size=3), short=set(range(20, 26)) - set(long))
        times = measured["tpot_ms"]
        assert times.value == pytest.approx(5.0)
        assert measured["tpot_speedup"].value == pytest.approx(2.0)
        assert measured["tokens_per_step"].value == 1.0
        assert "guesses" not in times.protocol
        assert times.protocol["untimed_guesses"]["timed_answers"] == len(long)
        assert f"{len(long)} of 6 prompts have an answer" in times.protocol["cautions"][-1]


def test_two_long_answers_tell_a_gain_with_a_wide_interval(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "two", ngram_size=3)
    few = measure(folder, (2.0, 3.0), short={20, 21, 22, 23})["tpot_speedup"]
    many = measure(folder, (2.0, 3.0))["tpot_speedup"]
    assert few.value == pytest.approx(many.value)
    assert few.low < many.low < many.high < few.high < math.inf
    assert few.protocol["guesses"]["prompts"] == 2


def test_one_hiccup_does_not_move_a_gain(tmp_path: Path) -> None:
    folder = folder_with(tmp_path / "guessing", ngram_size=3)
    measured = measure(folder, hiccup=5)["tpot_speedup"]
    assert measured.value == pytest.approx(4.0)
    assert measured.protocol["guesses"]["gain_by_prompt"] == [2.0] * 6


def test_a_reference_answers_once_for_all_that_stand_beside_it(tmp_path: Path) -> None:
    machine = Machine(0, 0.0)
    steps = PairedDecoderLatency(clock=lambda: machine.now, core_watch=simulated_cores(), new_tokens=64)
    reference = Guesser(machine, folder_with(tmp_path / "guessing", ngram_size=3), (2.0,))
    latency, plain = AnswerLatency(steps, PROMPTS), folder_with(tmp_path / "plain")
    latency.evaluate(reference, reference)
    once = len(reference.asked)
    for _ in range(2):
        measured = {m.metric: m for m in latency.evaluate(Guesser(machine, plain, (1.0,)), reference)}
        assert measured["tpot_speedup"].value == pytest.approx(0.5)
    assert len(reference.asked) == once


def test_the_search_and_confirmation_time_other_prompts_where_there_are_enough() -> None:
    def lengths(count: int, confirming: bool) -> list[int]:
        return [len(p.ids) for p in split_prompts([Prompt("", (1,) * n) for n in range(count)], confirming)]

    assert lengths(2 * LEAST_ANSWERS - 1, False) == lengths(2 * LEAST_ANSWERS - 1, True) == list(range(7))
    assert lengths(8, False) == [0, 2, 4, 6]
    assert lengths(8, True) == [1, 3, 5, 7]
    many = lengths(100, True)
    assert len(many) == MOST_ANSWERS
    assert (many[0], many[-1]) == (1, 99)
    assert not set(many) & set(lengths(100, False))
