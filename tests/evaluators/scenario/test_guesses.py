"""Guesses: what they gain by times that are known, and once with a real tiny model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from olivine.evaluators.process.messages import TimedAnswer
from olivine.evaluators.scenario.guesses import NONE, ROUNDS, TRIED, Guessing, measure, time_guesses
from olivine.passes.errors import UsageError
from olivine.search.cli.main import main


class Clocked:
    """Answers as long as the prompt's first token says; guesses divide their time by ``factor`` and its second token.

    Attributes:
        asked: prompt and n-gram of each request.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.asked: list[tuple[tuple[int, ...], int]] = []

    def answer(self, tokens: Sequence[int], most: int, ngram_size: int = 0, max_draft_tokens: int = 4) -> TimedAnswer:
        self.asked.append((tuple(tokens), ngram_size))
        length = min(tokens[0], most)
        ids = list(range(length)) if ngram_size < 3 else [7, *range(1, length)]
        ms = 10.0 * (length - 1)
        if not ngram_size:
            return TimedAnswer(ids, ms, 0, 0)
        return TimedAnswer(ids, ms / (self.factor * tokens[1]), length, length // 4)


def test_the_gain_is_the_ratio_of_times_and_guesses_are_counted() -> None:
    process = Clocked(1.5)
    two, three, _ = measure(process, [[20, 1], [40, 1]], 100)
    assert two.speedup.value == pytest.approx(1.5)
    assert two.speedup.low == pytest.approx(1.5)
    assert (two.accepted, two.right) == (0.25, 0.25)
    assert (two.same, three.same, two.prompts) == (2, 0, 2)
    assert len(process.asked) == 1 + ROUNDS * 2 * (1 + len(TRIED))


def test_the_interval_is_that_of_prompts_and_one_prompt_has_none() -> None:
    spread = measure(Clocked(1.0), [[20, 1], [20, 2], [20, 1], [20, 2]], 100)[0].speedup
    assert spread.value == pytest.approx(2**0.5)
    assert spread.low < 1.2 < 1.7 < spread.high
    assert measure(Clocked(1.5), [[20, 1]], 100)[0].speedup.low == 0


def test_answers_with_and_without_come_in_a_random_order() -> None:
    process = Clocked(1.0)
    measure(process, [[20, n] for n in range(1, 12)], 100)
    first = {process.asked[1 + n * (1 + len(TRIED))][1] for n in range(ROUNDS * 11)}
    assert first >= {NONE.ngram_size, 2, 3}


def test_a_folder_is_timed_with_its_own_options_too_and_tokens_a_step_are_told() -> None:
    own = Guessing(5, 2)
    gains = measure(Clocked(1.5), [[20, 1], [40, 1]], 100, own=own)
    assert [gain.guessing for gain in gains] == [*TRIED, own]
    assert gains[0].tokens_per_step.value == pytest.approx((20 / 15 + 40 / 30) / 2)
    assert gains[0].by_prompt == pytest.approx((1.5, 1.5))
    assert Guessing.of({"speculative": {"ngram_size": 5, "max_draft_tokens": 2}}) == own
    assert Guessing.of({"speculative": {"ngram_size": 0}}) == Guessing.of({}) == NONE


def test_short_answers_do_not_count_and_nothing_else_is_a_mistake() -> None:
    assert measure(Clocked(1.5), [[20, 1], [3, 1]], 100)[0].prompts == 1
    with pytest.raises(UsageError, match="No answer has 8 tokens"):
        measure(Clocked(1.5), [[20, 1]], 5)


def test_bench_times_a_folder_on_prompts(tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.jsonl"
    texts = ["The river is wide. " * 4, "Where is the boat? Where is the boat?", "A model is a thing."]
    prompts.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    gains = time_guesses(tiny_onnx, prompts, 40)
    assert [gain.guessing for gain in gains] == list(TRIED)
    assert all(gain.prompts == 3 and gain.speedup.low < gain.speedup.value < gain.speedup.high for gain in gains)
    assert all(gain.same == 3 for gain in gains)  # of float32
    assert any(gain.accepted > 0 for gain in gains)
    assert main(["bench", str(tiny_onnx), "--speculation", str(prompts), "--new-tokens", "20"]) == 0
    assert "3 of 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["b"], ["--prompt-tokens", "9"], ["--scenario", "chat"], ["--seconds", "20"], ["--half-width", "2%"]],
)
def test_an_option_that_guesses_do_not_use_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "a", *words, "--speculation", "prompts.jsonl"]) == 2
    assert "--speculation times one folder" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "7", "-1"])
def test_answers_too_short_to_be_timed_are_refused_before_any_work(
    count: str, tiny_onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", str(tiny_onnx), "--new-tokens", count, "--speculation", "prompts.jsonl"]) == 2
    assert f"{count} new tokens; at least 8" in capsys.readouterr().err


def test_a_pruned_head_is_refused(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx_ir as ir

    from olivine.passes.graph import save_wiring
    from olivine.passes.transforms.prune_head import PruneHead

    model = ir.load(tiny_onnx / "model.onnx")
    PruneHead().rewire(model)
    save_wiring(model, tiny_onnx, "model.onnx", folder := tmp_path / "pruned")
    with pytest.raises(UsageError, match="no guess can be checked"):
        time_guesses(folder, tmp_path / "prompts.jsonl", 20)
