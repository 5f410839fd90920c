from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import campaign
import pytest
import unseen_text
from study_folder import write_study
from unseen_text import Verdict, members, page, verdicts, widened

from olivine.evaluators.measurement import Measurement
from olivine.search.study_dir import StudyDir


def _study(root: Path) -> StudyDir:
    """A study folder whose front is told."""
    study = write_study(root)
    study.write_outcome(replace(study.outcome(), front=(1, 3, 5, 6, 7, 12)))
    return study


def _interval(metric: str, value: float, low: float, high: float, **protocol: Any) -> Measurement:
    return Measurement(metric, "ratio", value, low, high, protocol=protocol)


REPORTED = {
    name: _interval(name, value, value * 0.98, value * 1.02, text="demo:news")
    for name, value in {
        "perplexity_ratio": 1.05,
        "kl_divergence": 0.05,
        "perplexity_ratio.encyclopedia": 1.2,
        "kl_divergence.encyclopedia": 0.07,
    }.items()
}


def test_an_interval_is_widened_in_loss_and_not_in_perplexity() -> None:
    assert widened("kl_divergence", (0.04, 0.06)) == (pytest.approx(0.032), pytest.approx(0.075))
    assert widened("perplexity_ratio", (1.04, 1.06)) == (pytest.approx(1.032), pytest.approx(1.075))


def test_an_interval_that_reaches_below_no_loss_is_widened_away_from_it() -> None:
    assert widened("perplexity_ratio", (0.99, 1.01)) == (pytest.approx(0.9875), pytest.approx(1.0125))
    assert widened("perplexity_ratio", (0.98, 0.99)) == (pytest.approx(0.975), pytest.approx(0.992))


@pytest.mark.parametrize(("found", "word"), [(0.031, "less"), (0.033, "holds"), (0.074, "holds"), (0.076, "more")])
def test_a_loss_beyond_the_widened_interval_is_less_or_more(found: float, word: str) -> None:
    assert Verdict("kl_divergence", "news", (0.04, 0.06), found).word == word


def test_each_kind_of_text_is_judged_by_itself_and_all_of_them_together() -> None:
    found = {(v.metric, v.kind): v for v in verdicts(REPORTED, {"perplexity_ratio": 1.1, "kl_divergence": 0.06})}
    words = {kind: found["kl_divergence", kind].word for kind in ("demo:news", "encyclopedia", unseen_text.ANY)}
    assert words == {"demo:news": "holds", "encyclopedia": "holds", unseen_text.ANY: "holds"}
    assert found["kl_divergence", unseen_text.ANY].reported == (pytest.approx(0.049), pytest.approx(0.0714))
    assert found["perplexity_ratio", "demo:news"].word == "more"
    assert found["perplexity_ratio", "encyclopedia"].word == "less"
    assert found["perplexity_ratio", unseen_text.ANY].word == "holds"


def test_a_study_of_one_kind_of_text_has_one_verdict_a_metric() -> None:
    own = {name: value for name, value in REPORTED.items() if "." not in name}
    kinds = [v.kind for v in verdicts(own, {"perplexity_ratio": 1.05, "kl_divergence": 0.05})]
    assert kinds == ["its own text"] * 2


def test_members_are_the_selection_and_others_from_the_least_to_the_largest_loss(tmp_path: Path) -> None:
    study = _study(tmp_path / "study")
    outcome = study.outcome()
    losses = {number: outcome.confirmed[number]["kl_divergence"].value for number in outcome.front}
    chosen = members(study, 3)
    others = sorted(losses.keys() - {outcome.trial}, key=losses.__getitem__)
    assert chosen == [outcome.trial, others[0], others[-1]]
    assert sorted(members(study, 100)) == sorted({outcome.trial, *losses})


def test_only_what_is_missing_is_scored_and_the_page_counts_what_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "FOLDER", tmp_path / "rows")
    study, asked = _study(tmp_path / "study"), []

    def score(of: StudyDir, numbers: list[int], texts: dict[str, str], windows: int) -> Any:
        asked.append((list(numbers), windows))
        for number in numbers:
            confirmed = of.outcome().confirmed[number]
            found = {metric: confirmed[metric].value for metric in ("perplexity_ratio", "kl_divergence")}
            ends = {metric: dict.fromkeys(("value", "low", "high"), value) for metric, value in found.items()}
            yield {"study": str(of.root.resolve()), "trial": number, "kind": next(iter(texts)), "found": ends}

    monkeypatch.setattr(unseen_text, "score", score)
    to = tmp_path / "page.md"
    words = ["unseen_text", str(study.root), "--text", "code=a.py", "--windows", "3", "--to", str(to), "--members"]
    for count in ("1", "2"):
        monkeypatch.setattr("sys.argv", [*words, count])
        unseen_text.main()
    first, second = members(study, 2)
    assert asked == [([first], 3), ([second], 3)]
    assert "* code, beside what was reported of its own text: 4 of 4 intervals hold" in to.read_text()
    assert len((tmp_path / "rows" / "unseen-text.jsonl").read_text().splitlines()) == 2
    row = json.loads((tmp_path / "rows" / "unseen-text.jsonl").read_text().splitlines()[0])
    assert page([study], [row]).count(f"| {first} | code |") == 2
