"""front.csv: its rows and columns, and that it is read as it was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from study_folder import entry, record, records, write_study

from olivine.evaluators.measurement import Measurement
from olivine.search.front_csv import FrontColumns, front_axes, front_csv, front_entry, is_selected, read_front
from olivine.search.records import StudyOutcome
from olivine.search.study_dir import StudyDir

COLUMNS = FrontColumns(("tpot_ms", "tpot_speedup", "model_bytes"), ("tpot_speedup",), ("tpot_speedup",))
LANGUAGE_AXES = ("precision", "block_size")
CONFIRMED = {
    number: {name: record(number).metrics[name] for name in COLUMNS.metrics} | {"tpot_ms": entry("tpot_ms", 7.25, 0.1)}
    for number in (7, 3, 1)
}
OUTCOME = StudyOutcome(trial=3, reason="it fits", confirmed=CONFIRMED, front=(7,), dominated_probability={3: 0.99})


def written(folder: Path, outcome: StudyOutcome) -> list[dict[str, str]]:
    study = StudyDir(folder)
    study.front_path.write_text(front_csv(LANGUAGE_AXES, COLUMNS, records(), outcome))
    return read_front(study)


def test_the_front_and_a_selected_trial_off_it_have_rows(tmp_path: Path) -> None:
    rows = written(tmp_path, OUTCOME)
    assert [(row["trial"], is_selected(row)) for row in rows] == [("7", False), ("3", True)]
    assert [row["dominated_probability"] for row in rows] == ["0", "0.99"]


def test_a_metric_is_read_as_it_was_written(tmp_path: Path) -> None:
    (row, _) = written(tmp_path, OUTCOME)
    speedup, size = front_entry(row, "tpot_speedup"), front_entry(row, "model_bytes")
    assert speedup is not None and size is not None
    searched = record(7).metrics["tpot_speedup"]
    assert (speedup.value, f"{speedup.low:.5g}") == (searched.value, f"{searched.low:.5g}")
    assert (size.value, size.low, size.unit) == (226e6, 226e6, "bytes")
    assert front_entry(row, "perplexity") is None
    assert (row["tpot_ms"], row["tpot_speedup_search"]) == ("7.25", "2.91")


def test_axes_are_what_is_no_metric_and_not_about_the_trial(tmp_path: Path) -> None:
    assert front_axes(written(tmp_path, OUTCOME)) == list(LANGUAGE_AXES)


def test_metrics_that_no_member_has_get_no_column_and_an_empty_front_has_all(tmp_path: Path) -> None:
    fewer = {
        number: {name: m for name, m in metrics.items() if name != "tpot_ms"} for number, metrics in CONFIRMED.items()
    }
    assert "tpot_ms" not in written(tmp_path, StudyOutcome(confirmed=fewer, front=(7,)))[0]
    header = front_csv(LANGUAGE_AXES, COLUMNS, records(), StudyOutcome()).strip()
    assert header == (
        "trial,selected,precision,block_size,tpot_ms,tpot_speedup,tpot_speedup_low,tpot_speedup_high,model_bytes,runtime,"
        "dominated_probability,tpot_speedup_search"
    )


def test_a_study_without_a_front_has_no_rows(tmp_path: Path) -> None:
    assert read_front(write_study(tmp_path / "study", ended=False)) == []


def test_columns_of_other_kinds_of_text_stand_at_the_end_and_are_no_axes(tmp_path: Path) -> None:
    elsewhere = Measurement("kl_divergence.books", "nats", 0.08, 0.07, 0.09)
    some = {**CONFIRMED, 7: {**CONFIRMED[7], elsewhere.metric: elsewhere}}
    (row, without) = written(tmp_path, replace(OUTCOME, confirmed=some))
    assert list(row)[-4:] == ["tpot_speedup_search", *(f"kl_divergence.books{end}" for end in ("", "_low", "_high"))]
    assert front_axes([row]) == list(LANGUAGE_AXES)
    assert front_entry(row, "kl_divergence.books") == elsewhere
    assert without["kl_divergence.books"] == ""
