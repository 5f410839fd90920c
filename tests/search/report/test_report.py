from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from browser import chromium
from study_folder import REASON_FAILED, entry, record, records, write_study

from olivine.evaluators.measurement import Measurement
from olivine.passes.errors import UsageError
from olivine.search.records import LeftOut, StudyOutcome
from olivine.search.report.importance import importances
from olivine.search.report.plots.front import KINDS, draw_front, plot_pairs
from olivine.search.report.plots.front_plotly import front_figure
from olivine.search.report.plots.front_svg import front_svg, legend
from olivine.search.report.plots.svg_axes import Scale, ticks
from olivine.search.report.plots.svg_labels import Box, place
from olivine.search.report.report import render, require_front_picture, write_report
from olivine.search.report.study_view import StudyView, read_view
from olivine.search.report.summary import protocols


def text_of(html: str) -> str:
    """What a reader sees: no tags, one space between words."""
    body = re.sub(r"<(style|script|svg).*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_report_of_an_ended_study_tells_the_whole_story(tmp_path: Path) -> None:
    html = write_report(write_study(tmp_path / "study")).read_text()
    text = text_of(html)
    assert "precision mixed, block_size 32, int8_share 0.3" in text
    assert "It is the knee of the confirmed front" in text
    assert "prefill is 0.98x of the base" in text
    assert "2.91x 95 % interval 2.85 to 2.97" in text
    assert "2.9x smaller than the base&#39;s 657 MB" in text
    assert "time per token 6.74 ms, base 19.6 ms" in text
    assert "perplexity 26.133, base 24.700" in text
    assert "olivine build demo:smollm2-135m-instruct --to best" in text
    assert "decode speedup 3.64x (3.53 to 3.74), of which threads 1.25x (1.23 to 1.28)" in text
    assert "news articles" in text
    assert "window_tokens 512" in text
    assert "onnxruntime-genai 0.18.0" in text
    assert html.count("<tr class=") == 16


def test_report_is_one_small_file_that_asks_nothing_of_the_network(tmp_path: Path) -> None:
    sixty = [replace(record(n % 15), number=n) for n in range(60)]
    html = write_report(write_study(tmp_path / "study", sixty, ended=False)).read_text()
    assert len(html.encode()) < 400_000
    links = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert links == []
    assert set(re.findall(r"https?://[^\"'<\s]+", html)) == {"http://www.w3.org/2000/svg"}


def test_everything_that_a_study_brings_is_escaped(tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    trials = records()
    trials[3] = replace(trials[3], reason=evil, params={**trials[3].params, "algorithm": evil}, provider=evil)
    html = write_report(write_study(tmp_path / "study", trials)).read_text()
    assert "<img" not in html
    assert "&lt;img src=x" in html
    assert text_of(html).count("&lt;of 6.0 GB&gt; &amp; left") == REASON_FAILED.count("<of 6.0 GB> & left")


def test_report_of_a_running_study_shows_the_front_so_far(tmp_path: Path) -> None:
    text = text_of(write_report(write_study(tmp_path / "study", records()[:7], ended=False)).read_text())
    assert "This study has not ended" in text
    assert "it is not confirmed" in text
    assert "No importances. Trials measured in full: 5." in text


def test_report_without_a_feasible_trial_shows_the_nearest_misses(tmp_path: Path) -> None:
    trials = [record(0), replace(record(2), number=1), replace(record(11), number=2)]
    text = text_of(write_report(write_study(tmp_path / "study", trials, ended=False)).read_text())
    assert "No candidate meets the constraints." in text
    assert text.index("2 50.0 %") < text.index("1 62.5 %")


def test_an_ended_study_that_selected_nothing_says_why(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    study.front_path.write_text(study.front_path.read_text().splitlines()[0] + "\n")
    study.selection_path.write_text(json.dumps({"trial": None, "reason": "Trial 7 is over by 2 %."}))
    text = text_of(write_report(study).read_text())
    assert "No candidate meets the constraints. Trial 7 is over by 2 %." in text
    assert "Nearest misses" in text
    assert "has not ended" not in text


@pytest.mark.parametrize("count", [0, 1])
def test_report_of_a_study_that_has_just_begun(tmp_path: Path, count: int) -> None:
    study = write_study(tmp_path / "study", records()[:count], ended=False)
    study.environment_path.unlink()
    text = text_of(write_report(study).read_text())
    assert "No candidate has been measured yet." in text


def test_report_survives_an_unbounded_interval_and_a_missing_database(tmp_path: Path) -> None:
    trials = records()
    endless = replace(trials[1].metrics["tpot_speedup"], low=-math.inf, high=math.inf)
    trials[1] = replace(trials[1], metrics={**trials[1].metrics, "tpot_speedup": endless})
    study = write_study(tmp_path / "study", trials, ended=False)
    study.database_path.unlink()
    html = write_report(study).read_text()
    assert "2.41x ±?" in html
    assert "another storage was used" in html
    assert "nan" not in re.sub(r"<style.*?</style>", "", html, flags=re.DOTALL).split("<section>")[0]


def test_confirmed_values_replace_those_of_the_search(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    lines = study.front_path.read_text().replace("2.91,", "2.77,")
    study.front_path.write_text(lines)
    selection = study.selection_path.read_text().replace('"value": 2.91', '"value": 2.77')
    study.selection_path.write_text(selection)
    view = read_view(study)
    assert view.confirmed
    assert view.selected is not None
    assert view.selected.value("tpot_speedup") == 2.77
    assert 0 not in [member.number for member in view.members]


def test_a_selected_trial_off_the_front_is_shown_with_its_confirmed_values(tmp_path: Path) -> None:
    """Then front.csv has no row of it: what beats it breaks ``select.where``."""
    study = write_study(tmp_path / "study")
    outcome = study.outcome()
    confirmed = {**outcome.confirmed, 2: {"tpot_speedup": entry("tpot_speedup", 2.33, 0.01)}}
    study.write_outcome(replace(outcome, trial=2, reason="It is not on the front.", confirmed=confirmed))
    view = read_view(study)
    assert view.selected is not None
    assert (view.selected.number, view.selected.value("tpot_speedup")) == (2, 2.33)
    assert 2 not in [member.number for member in view.members]
    assert "2.33" in render(study)


def test_front_picture_is_valid_svg_of_its_own(tmp_path: Path) -> None:
    picture = require_front_picture(write_study(tmp_path / "study"))
    root = ET.fromstring(picture)
    names = [element.attrib.get("class") for element in root.iter()]
    assert names.count("front") == 5
    assert names.count("selected") == 1
    assert names.count("base") == 1
    assert "prefers-color-scheme" in picture


def test_report_and_dashboard_render_one_drawing(tmp_path: Path) -> None:
    drawing = draw_front(read_view(write_study(tmp_path / "study")), "tpot_speedup", "perplexity_ratio")
    picture, figure = front_svg(drawing, standalone=True), front_figure(drawing, "demo")
    shown = [text for trace in figure.data for text in trace.hovertext or ()]
    marks = [element.get("data-tip") for element in ET.fromstring(picture).iter() if element.get("class") == "mark"]
    tips = [point.tooltip.replace("\n", " ") for point in drawing.points]  # as XML reads an attribute
    assert sorted(marks) == sorted(tips)
    assert sorted(text.replace("<br>", " ") for text in shown) == sorted(tips)
    assert len(drawing.stairs) == 2 * 6 - 1
    assert [kind.legend for kind in KINDS.values() if kind.legend in str(legend(drawing))] == [
        *("breaks a constraint", "other trials", "float base", "front", "selected")
    ]


def test_there_is_no_picture_of_a_study_without_candidates(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", [record(0)], ended=False)
    with pytest.raises(UsageError, match="no front to draw"):
        require_front_picture(study)


def test_marks_tell_every_kind_of_trial_apart(tmp_path: Path) -> None:
    view = read_view(write_study(tmp_path / "study"))
    kinds = {mark.number: mark.kind for mark in draw_front(view, "tpot_speedup", "perplexity_ratio").points}
    assert kinds[0] == "base"
    assert kinds[7] == "selected"
    assert kinds[14] == "infeasible"
    assert kinds[12] == "front"
    assert kinds[4] == "feasible"
    assert 2 not in kinds


@pytest.mark.parametrize(
    ("objectives", "pairs"),
    [
        (("tpot_ms", "perplexity_ratio"), [("tpot_speedup", "perplexity_ratio")]),
        (("kl_divergence", "ttft_ms"), [("ttft_speedup", "kl_divergence")]),
        (("tpot_ms", "model_bytes"), [("tpot_speedup", "model_bytes")]),
        (
            ("tpot_ms", "ttft_ms", "perplexity_ratio"),
            [("tpot_speedup", "perplexity_ratio"), ("ttft_speedup", "perplexity_ratio")],
        ),
    ],
)
def test_quality_goes_upwards_and_times_are_shown_as_speedups(
    objectives: tuple[str, ...], pairs: list[tuple[str, str]]
) -> None:
    assert plot_pairs(objectives) == pairs


def test_importances_add_up_to_one_per_objective(tmp_path: Path) -> None:
    found = importances(write_study(tmp_path / "study"), ("tpot_ms", "perplexity_ratio"))
    assert set(found.shares) == {"tpot_ms", "perplexity_ratio"}
    for shares in found.shares.values():
        assert sum(share for _, share in shares) == pytest.approx(1)


def test_ticks_are_round_and_within_the_range() -> None:
    assert ticks(0.97, 1.21, 5) == pytest.approx([1.0, 1.05, 1.1, 1.15, 1.2])
    assert Scale(0, 10, 100, 200)(25) == 200


def test_a_label_finds_a_free_place_or_none() -> None:
    inside = Box(0, 0, 100, 100)
    assert place(50, 50, 20, 9, [], inside) is not None
    assert place(50, 50, 20, 9, [inside], inside) is None
    found = place(99, 1, 20, 9, [], inside)
    assert found is not None
    assert found.within(inside)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_report_renders_in_a_browser(tmp_path: Path, scheme: str, width: int) -> None:
    path = write_report(write_study(tmp_path / "study"))
    with chromium() as browser:
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.screenshot(path=str(tmp_path / f"report-{scheme}-{width}.png"), full_page=True)
        plot = page.locator("#front svg.plot:visible")
        assert plot.count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        mark = page.locator(".mark:visible").last
        mark.hover()
        assert "trial 7, selected" in page.locator("#tip").inner_text()
        page.get_by_role("button", name="ppl ratio").click()
        first = page.locator("#trials tbody tr").nth(1).locator("td").first.inner_text()
        assert first == "1"
        page.get_by_role("button", name="ppl ratio").click()
        assert page.locator("#trials tbody tr").first.locator("td").first.inner_text() == "14"
        assert complaints == []


def test_candidates_with_all_layers_alike_are_a_series_of_their_own(tmp_path: Path) -> None:
    """What other tools build, under the front: feasible, one width, float activations."""
    study = write_study(tmp_path / "study")
    found = draw_front(read_view(study), "tpot_speedup", "perplexity_ratio").points
    assert {mark.number for mark in found if mark.uniform} == {1, 3, 4, 12, 13}
    root = ET.fromstring(require_front_picture(study))
    kinds = [element.get("class") for element in root.iter()]
    assert kinds.count("uniform") == 5
    assert kinds.count("uniform-step") == 1
    assert kinds.count("step") == 1


def test_what_each_ingredient_brought_is_told_beside_the_selected_recipe(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    assert "Ablation of the selected recipe" not in write_report(study).read_text()
    left_out = (
        LeftOut("activations", "int8", "float", {"ttft_speedup": entry("ttft_speedup", 1.25, 0.008)}),
        LeftOut("algorithm", "gptq", "rtn", {}, "it <died>"),
    )
    study.write_outcome(replace(study.outcome(), ablation=left_out))
    html = write_report(study).read_text()
    section = html[html.index('id="ablation"') : html.index("All trials")]
    assert "activations float instead of int8" in section
    assert "1.25x ±0.01" in section
    assert "it &lt;died&gt;" in section
    assert section.count("<tr>") == 4


def test_what_fell_off_the_front_in_confirmation_is_shown_as_confirmed(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    outcome = study.outcome()
    fallen = next(r for r in study.trials() if r.feasible and r.number not in outcome.confirmed and r.number)
    fresh = {"tpot_speedup": Measurement("tpot_speedup", "ratio", 1.11, 1.1, 1.12)}
    study.write_outcome(replace(outcome, confirmed={**outcome.confirmed, fallen.number: fresh}))
    found = {mark.number: mark for mark in draw_front(read_view(study), "tpot_speedup", "perplexity_ratio").points}
    assert found[fallen.number].x == (1.11, 1.1, 1.12)
    assert found[fallen.number].kind == "feasible"
    assert found[fallen.number].y[0] == fallen.value("perplexity_ratio")


def test_confirmed_values_stand_beside_the_searchs_own_with_the_shrinkage(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    moved = {"tpot_speedup": 0.94, "perplexity_ratio": 1.001}
    study.write_outcome(replace(study.outcome(), dominated_probability={7: 0.12}, measured={7: 3}, shrinkage=moved))
    text = text_of(write_report(study).read_text())
    assert "Mean change: decode speedup 6.0% lower, perplexity ratio unchanged." in text
    assert "12 % 3x" in text
    assert "breaks a constraint 1x" in text


def test_the_report_names_whom_the_ladder_dropped(tmp_path: Path) -> None:
    trials = records()
    trials[2] = replace(trials[2], ladder={"step": "first windows", "reason": "surely <broken>", "audited": False})
    text = text_of(write_report(write_study(tmp_path / "study", trials)).read_text())
    assert "Candidates dropped before timing" in text
    assert "2 first windows surely &lt;broken&gt;" in text
    assert "Candidates dropped before timing" not in text_of(write_report(write_study(tmp_path / "plain")).read_text())


def test_metrics_of_one_measurement_share_a_block_whatever_is_of_one_of_them_alone() -> None:
    timed = {"rounds": 20, "neighbours": 0.01, "samples": [1]}
    metrics = {
        "ttft_ms": entry("ttft_ms", 1.0, **timed),
        "tpot_ms": entry("tpot_ms", 1.0, **timed | {"neighbours": 0.02, "samples": [2]}),
        "perplexity": entry("perplexity", 1.0, text="news"),
    }
    measured, outcome = replace(record(3), metrics=metrics), StudyOutcome(trial=3, reason="it fits")
    view = StudyView("s", "m", ("tpot_ms", "perplexity"), (), (measured,), (), False, outcome, {})
    first, second = protocols(view)
    assert len(first["metrics"]) == 2
    assert first["settings"] == [("rounds", "20")]
    assert second["settings"] == [("text", "news")]
