from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import train_tiny
from peers import members, page, picture, targets, train_qwen3

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.peers import timing
from olivine.evaluators.peers.engines import convert_gguf
from olivine.evaluators.peers.engines.worker import answer, compare
from olivine.evaluators.peers.measured import Measured, load, save, with_rates
from olivine.evaluators.peers.process import Launch, running
from olivine.evaluators.peers.rows import OLIVINE, Row
from olivine.evaluators.peers.timing import COUNTED, NEW_TOKENS, Visit, run_rounds, visits
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.planning.build_one import BuildRequest

ROUNDS = range(8)
TOKENS = [1, 0, 2, 1]


def _measured(engine: str, name: str, kl: float, megabytes: float, prefill: float, decode: float) -> Measured:
    sums = [{"kl": kl * 10 * spread, "nll": 20.0, "base_nll": 20.0, "positions": 10} for spread in (0.9, 1.0, 1.1)]
    rates = ({number: rate * (1 + number / 1000) for number in ROUNDS} for rate in (prefill, decode))
    kinds = {"news": sums, "encyclopedia": sums}
    return Measured(engine, name, int(megabytes * 1e6), "c", True, "w", kinds, *rates)


RIVALS = [
    _measured("llama.cpp", "Q8_0", 0.004, 175, 1000, 160),
    _measured("llama.cpp", "Q5_K_M", 0.05, 133, 540, 155),
    _measured("llama.cpp", "Q4_K_M", 0.085, 125, 970, 165),
    _measured("OpenVINO", "int8", 0.007, 165, 3400, 120),
]


def _by_title(rows: list[Measured]) -> dict[str, Measured]:
    return {row.title: row for row in rows}


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


def test_every_member_is_a_recipe_that_can_be_built() -> None:
    recipes = members.recipes()
    assert len(recipes) >= 6
    for name, axes in recipes.items():
        config = BuildRequest("demo:smollm2-135m-instruct", axes).config()
        assert choice_mistakes(dict(config.space), name, {}, config.catalog) == []
        assert config.space["prune_head"] is True, name


def test_a_front_holds_the_rows_that_none_beats_in_both() -> None:
    points = [(0.1, 5.0), (0.2, 4.0), (0.2, 7.0), (0.05, 3.0)]
    assert picture.front(points, more=True) == [(0.05, 3.0), (0.1, 5.0), (0.2, 7.0)]
    assert picture.front(points, more=False) == [(0.05, 3.0)]


def test_a_target_is_met_by_a_member_that_meets_all_of_its_conditions() -> None:
    member = _measured("olivine", "good", 0.009, 170, 3500, 180)
    (target, *_) = targets.TARGETS
    found = targets.best(target, [*RIVALS, member])
    assert found is not None
    assert found[0] is member
    assert [check.missed for check in found[1]] == ["", "", "", ""]


def test_a_target_that_is_missed_says_by_how_much() -> None:
    member = _measured("olivine", "slow", 0.009, 210, 1700, 180)
    checks = targets.checks(targets.TARGETS[0], member, _by_title([*RIVALS, member]))
    assert [check.missed for check in checks if check.missed] == ["bytes by 20%", "prefill by 50%"]


def test_the_member_whose_worst_condition_is_met_best_stands_for_a_target() -> None:
    even = _measured("olivine", "even", 0.02, 150, 3000, 170)
    uneven = _measured("olivine", "uneven", 0.02, 100, 1000, 300)
    beyond = _measured("olivine", "beyond", 0.04, 100, 9000, 300)
    found = targets.best(targets.TARGETS[1], [*RIVALS, even, uneven, beyond])
    assert found is not None
    assert found[0] is even


def test_a_page_says_which_targets_are_met_and_where_no_member_is_within_the_loss() -> None:
    member = _measured("olivine", "small", 0.08, 100, 3500, 300)
    text = page.page({"A model": [*RIVALS, member]}, 2, "peers.svg", ["A model"])
    assert "| 0.01 | none | | | | missed |" in text
    last = next(line for line in text.splitlines() if line.startswith("| 0.09 |"))
    assert last.endswith("**met** |")
    assert "| olivine | small | 0.0800 [0.0" in text


def test_a_page_ranks_the_best_of_each_engine_within_a_loss_and_has_targets_for_their_model_alone() -> None:
    members = [_measured("olivine", "small", 0.08, 100, 900, 300), _measured("olivine", "fast", 0.02, 150, 3500, 150)]
    text = page.page({"A model": [*RIVALS, *members]}, 2, "peers.svg", ["Another"])
    assert "### Targets" not in text
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines() if line.startswith("| 0.0")}
    size, decode, prefill = (cell.rstrip(" |").split("<br>") for cell in rows["| 0.09"])
    assert size == ["olivine small: 100.0 MB", "llama.cpp Q4_K_M: 125.0 MB", "OpenVINO int8: 165.0 MB"]
    assert [line.split(":")[0] for line in decode] == ["olivine small", "llama.cpp Q4_K_M", "OpenVINO int8"]
    assert [line.split(":")[0] for line in prefill] == ["olivine fast", "OpenVINO int8", "llama.cpp Q8_0"]
    assert rows["| 0.01"][0] == "OpenVINO int8: 165.0 MB<br>llama.cpp Q8_0: 175.0 MB"


def test_the_second_model_learns_no_article_that_is_scored(monkeypatch: pytest.MonkeyPatch) -> None:
    articles = [f"{letter * 70} number {n}\nand one more paragraph" for n, letter in enumerate("abcdefghijkl" * 2)]
    news = [f"news of day {day}" for day in range(30)]

    def documents(source: TextSource) -> list[str]:
        return news if source.demo == "news" else [f"<{article.replace('number', 'Number')}" for article in articles]

    monkeypatch.setattr(TextSource, "documents", documents)
    monkeypatch.setattr(train_tiny, "articles", lambda: articles)
    learned = train_qwen3.texts()
    scored = [text for name in ("select", "confirm") for text in splits(documents(TextSource(demo="x")))[name]]
    held_out = {text[1:60] for text in [*scored, *("<" + text for text in splits(articles)["confirm"])]}
    assert len(learned) > 10
    assert not {text[:59] for text in learned} & held_out
    assert set(splits(news)["calibrate"]) == {text for text in learned if text.startswith("news")}


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


def test_a_picture_has_a_point_for_each_row_and_panel() -> None:
    float_model = replace(RIVALS[0], name="float32", timed=False)
    root = ElementTree.fromstring(picture.picture([*RIVALS, float_model, _measured("olivine", "a", 0.01, 9, 9, 9)]))
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles.count("olivine a") == 3
    assert "llama.cpp float32" not in titles


def test_rates_are_of_prompts_during_which_the_cores_lay_side_by_side_and_no_thread_waited() -> None:
    visit = Visit(0, "k", "t", "c", [1.0, 9.0, 2.0], [4.0, 9.0, 4.0], [2.0, 6.0, 2.0], [True, False, True], [0.0] * 3)
    assert visit.rates(300) == (200.0, (NEW_TOKENS - 1) / 4)
    assert replace(visit, adjacent=[False] * 3).rates(300) == (150.0, (NEW_TOKENS - 1) / 4)
    assert replace(visit, waited=[0.5] * 3).rates(300) is None
    assert replace(visit, waited=[0.0, 0.0, 0.5]).rates(300) == (300.0, (NEW_TOKENS - 1) / 4)


def test_rates_of_another_content_are_left_out(tmp_path: Path) -> None:
    row = replace(_measured("olivine", "a", 0.01, 9, 9, 9), prefill={}, decode={})
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
    import json
    from dataclasses import asdict

    path.write_text("".join(json.dumps(asdict(visit)) + "\n" for visit in listed))
