"""The study folder: its files, and messages where one is missing, damaged or too new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from study_folder import write_study

from olivine.passes.errors import UsageError
from olivine.search.study_dir import FORMAT, StudyDir


def test_files_lie_where_others_look_for_them() -> None:
    study = StudyDir(Path("results/demo"))
    names = ("config.yaml", "environment.json", "study.db", "front.csv", "report.html", "best")
    paths = (study.config_path, study.environment_path, study.database_path, study.front_path, study.report_path)
    assert [str(path) for path in (*paths, study.best_path)] == [f"results/demo/{name}" for name in names]
    assert study.trial_path(7) == Path("results/demo/trials/0007.json")


def test_a_trial_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    assert study.trial(7).number == 7
    with pytest.raises(UsageError, match="has no trial 99; it has 0 to 15"):
        study.trial(99)
    with pytest.raises(UsageError, match="it has none"):
        StudyDir(tmp_path / "empty").trial(0)


@pytest.mark.parametrize(("number", "cure"), [(3, "is measured again"), (0, "put back a copy")])
def test_a_damaged_record_is_named_with_its_cure(tmp_path: Path, number: int, cure: str) -> None:
    study = write_study(tmp_path / "study")
    study.trial_path(number).write_text('{"number": 3,')
    with pytest.raises(UsageError, match=rf"000{number}\.json is damaged .*{cure}"):
        study.trials()


def test_a_folder_of_a_later_format_is_refused_with_the_version_that_reads_it(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    study.format_path.write_text(json.dumps({"format": FORMAT + 1, "olivine": "9.1"}))
    with pytest.raises(UsageError, match=r"Open it with olivine 9\.1 or newer"):
        StudyDir.open(study.root)
    with pytest.raises(UsageError, match="is no study folder"):
        StudyDir.open(tmp_path)


@pytest.mark.parametrize(
    ("masks", "lines"),
    [
        ({"cliffs": [{"reason": "int4, 3.1x slower"}], "note": ""}, ("int4, 3.1x slower",)),
        ({"cliffs": [], "note": "all kernels are fast"}, ("all kernels are fast",)),
        ({"cliffs": [], "note": ""}, ()),
    ],
)
def test_kernels_that_were_not_proposed_are_told(tmp_path: Path, masks: object, lines: tuple[str, ...]) -> None:
    study = StudyDir(tmp_path)
    assert study.masked_kernels() == ()
    study.kernels_path.write_text(json.dumps(masks))
    assert study.masked_kernels() == lines


def test_what_was_not_written_yet_is_empty(tmp_path: Path) -> None:
    study = StudyDir(tmp_path)
    assert (study.trials(), study.environment(), study.model()) == ([], {}, {})
