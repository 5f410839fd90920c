"""Engines beside each other: their protocol, what a window is compared by, and rounds of timing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olivine.evaluators.peers import timing
from olivine.evaluators.peers.engines import convert_gguf
from olivine.evaluators.peers.engines.worker import answer, compare
from olivine.evaluators.peers.measured import Measured, load, save, with_rates
from olivine.evaluators.peers.process import Launch, running
from olivine.evaluators.peers.rows import OLIVINE, Row
from olivine.evaluators.peers.timing import COUNTED, NEW_TOKENS, Visit, run_rounds, visits

TOKENS = [1, 0, 2, 1]


def _logits(rows: int = 4, vocabulary: int = 3) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, vocabulary)).astype(np.float32)


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.exp(logits).sum(-1, keepdims=True)), np.float32)


def test_a_window_is_compared_at_every_position_that_has_a_next_token() -> None:
    base, found = _log_probabilities(_logits()), _log_probabilities(_logits() * 0.5)
    sums = compare(base, _logits() * 0.5 + 7, TOKENS)
    assert sums["positions"] == 3
    assert sums["kl"] == pytest.approx(float((np.exp(base) * (base - found))[:3].sum()), rel=1e-5)
    assert sums["nll"] == pytest.approx(-float(found[[0, 1, 2], TOKENS[1:]].sum()), rel=1e-5)
    assert sums["base_nll"] == pytest.approx(-float(base[[0, 1, 2], TOKENS[1:]].sum()), rel=1e-5)


def test_an_engine_that_pads_its_vocabulary_loses_nothing_by_it() -> None:
    padded = np.hstack([_logits(), np.full((4, 5), 50.0, np.float32)])
    assert compare(_log_probabilities(_logits()), padded, TOKENS)["kl"] == pytest.approx(0, abs=1e-6)


def test_a_request_to_generate_is_answered_with_the_times_of_the_engine() -> None:
    class Clock:
        def logits(self, tokens: list[int]) -> Any:
            raise NotImplementedError

        def generate(self, prompt: list[int], new_tokens: int) -> tuple[float, float]:
            return len(prompt) / 100, new_tokens / 10

    assert answer(Clock(), {"generate": [1, 2], "new_tokens": 5}) == (0.02, 0.5)


def test_an_engine_that_dies_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such model >&2\nexit 1\n")
    python.chmod(0o755)
    with running(Launch(python, "genai.py", {})) as engine, pytest.raises(RuntimeError, match="no such model"):
        engine.ask({"generate": [1], "new_tokens": 1})


@pytest.mark.parametrize(("split", "name"), [({"type": "ByteLevel", "trim_offsets": True}, "gpt-2"), ({}, None)])
def test_a_vocabulary_that_llama_cpp_does_not_know_is_taken_by_how_it_splits_words(
    tmp_path: Path, split: dict[str, Any], name: str | None
) -> None:
    settings = {**split, **({"add_prefix_space": False, "use_regex": True} if split else {"type": "Digits"})}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"pre_tokenizer": settings}))

    def unknown(model: object, tokenizer: object) -> str:
        raise NotImplementedError("not recognized")

    assert convert_gguf.known_split(lambda *_: "by hash", tmp_path)(None, None) == "by hash"
    look_up = convert_gguf.known_split(unknown, tmp_path)
    if name is None:
        with pytest.raises(NotImplementedError, match="not recognized"):
            look_up(None, None)
    else:
        assert look_up(None, None) == name


def test_rates_are_of_prompts_during_which_the_cores_lay_side_by_side_and_no_thread_waited() -> None:
    visit = Visit(0, "k", "t", "c", [1.0, 9.0, 2.0], [4.0, 9.0, 4.0], [2.0, 6.0, 2.0], [True, False, True], [0.0] * 3)
    assert visit.rates(300) == (200.0, (NEW_TOKENS - 1) / 4)
    assert replace(visit, adjacent=[False] * 3).rates(300) == (150.0, (NEW_TOKENS - 1) / 4)
    assert replace(visit, waited=[0.5] * 3).rates(300) is None
    assert replace(visit, waited=[0.0, 0.0, 0.5]).rates(300) == (300.0, (NEW_TOKENS - 1) / 4)


def test_rates_of_another_content_are_left_out(tmp_path: Path) -> None:
    row = Measured(OLIVINE, "a", 9, "c", True, "w", {})
    save(tmp_path / "measured.json", {row.title: row})
    lines = [Visit(n, "k", row.title, content, [1.0], [1.0], [2.0], [True], [0.0]) for n, content in enumerate("cdc")]
    _write(tmp_path / "visits.jsonl", lines)
    (found,) = with_rates(load(tmp_path / "measured.json"), tmp_path / "visits.jsonl")
    assert sorted(found.decode) == [0, 2]


def test_a_ratio_is_of_the_rounds_that_both_rows_have() -> None:
    ratio = timing.speedup({n: 2.0 * n for n in range(1, 9)}, {n: float(n) for n in range(2, 20)})
    assert (ratio.value, ratio.low, ratio.high) == (pytest.approx(2), pytest.approx(2), pytest.approx(2))


def test_a_slice_goes_on_where_the_last_one_ended_and_leaves_rounds_of_other_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timed: list[str] = []

    def times(row: Row, prompts: list[list[int]], _: object) -> Any:
        timed.append(row.name)
        same = {name: [0.1] * COUNTED for name in ("prefill_s", "decode_s", "distances", "waited")}
        return {**same, "adjacent": [True] * COUNTED}

    monkeypatch.setattr(timing, "_times", times)
    launch = Launch(Path("python"), "genai.py", {})
    rows = [(Row(OLIVINE, name, tmp_path, launch), name) for name in "ab"]
    file, prompts = tmp_path / "visits.jsonl", [[1], [2]]
    assert not run_rounds(rows, prompts, file, 2, -1.0)
    assert run_rounds(rows, prompts, file, 2, 60.0)
    assert sorted(timed) == ["a", "a", "b", "b"]
    assert run_rounds(rows, prompts, file, 2, 60.0)
    assert len(timed) == 4
    assert run_rounds([rows[0], (rows[1][0], "new")], prompts, file, 1, 60.0)
    assert [(v.round, v.content) for v in visits(file) if v.round > 1 and v.title == "olivine b"] == [(2, "new")]


def _write(path: Path, listed: list[Visit]) -> None:
    path.write_text("".join(json.dumps(asdict(visit)) + "\n" for visit in listed))
