from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
import train_tiny
from peers import members, page, picture, targets, train_qwen3

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.peers.measured import Measured
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.planning.build_one import BuildRequest

ROUNDS = range(8)


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


def test_a_member_that_was_not_timed_does_not_stand_for_a_target() -> None:
    timed = _measured("olivine", "timed", 0.009, 170, 3000, 150)
    new = replace(timed, name="new", bytes=100_000_000, prefill={}, decode={})
    found = targets.best(targets.TARGETS[0], [*RIVALS, timed, new])
    assert found is not None
    assert found[0] is timed


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
    order = text[text.index("### Order") : text.index("### All rows")]
    rows = {line.split(" | ")[0]: line.split(" | ")[2:] for line in order.splitlines() if line.startswith("| Q")}
    size, decode, prefill = (cell.rstrip(" |").split("<br>") for cell in rows["| Q4_K_M"])
    assert size == ["olivine small: 100.0 MB", "llama.cpp Q4_K_M: 125.0 MB", "OpenVINO int8: 165.0 MB"]
    assert [line.split(":")[0] for line in decode] == ["olivine small", "llama.cpp Q4_K_M", "OpenVINO int8"]
    assert [line.split(":")[0] for line in prefill] == ["olivine fast", "OpenVINO int8", "llama.cpp Q8_0"]
    assert list(rows) == ["| Q8_0", "| Q5_K_M", "| Q4_K_M"]
    assert rows["| Q8_0"][0] == "llama.cpp Q8_0: 175.0 MB", "OpenVINO's int8 loses more than it"


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


def test_a_picture_has_a_point_for_each_row_and_panel() -> None:
    float_model = replace(RIVALS[0], name="float32", timed=False)
    root = ElementTree.fromstring(picture.picture([*RIVALS, float_model, _measured("olivine", "a", 0.01, 9, 9, 9)]))
    titles = [element.text for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles.count("olivine a") == 3
    assert "llama.cpp float32" not in titles
