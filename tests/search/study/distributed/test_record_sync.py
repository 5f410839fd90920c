"""Records of workers, by a shared folder or below a URL."""

from __future__ import annotations

from pathlib import Path

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.search.records import TrialRecord
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study_dir import StudyDir


def record(number: int, key: str = "k") -> TrialRecord:
    return TrialRecord(number, "complete", "", {}, LANGUAGE.recipe([]), key, workers={"build": "a"})


def pair(tmp_path: Path, kind: str) -> tuple[RecordSync, RecordSync]:
    """Two workers of one study."""
    if kind == "folder":
        return RecordSync(StudyDir(tmp_path / "study")), RecordSync(StudyDir(tmp_path / "study"))
    url = f"file://{tmp_path / 'bucket'}" if kind == "file" else "memory://bucket/study"
    return RecordSync(StudyDir(tmp_path / "a"), url), RecordSync(StudyDir(tmp_path / "b"), url)


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_each_record_arrives_once_and_can_be_taken_back(kind: str, tmp_path: Path) -> None:
    writer, leader = pair(tmp_path, kind)
    assert leader.new_records() == []
    writer.write(record(3))
    assert leader.new_records() == [record(3)]
    assert leader.new_records() == []
    assert writer.new_records() == [], "its own is known"
    assert leader.record(3) == record(3)
    writer.write(record(4))
    writer.take_back(4)
    assert leader.record(4) is None
    assert leader.new_records() == []


@pytest.mark.parametrize("kind", ["folder", "file", "memory"])
def test_what_is_handed_over_arrives(kind: str, tmp_path: Path) -> None:
    builder, scorer = pair(tmp_path, kind)
    builder.hand_over(record(5, "handed"))
    assert scorer.handed_over(5) == record(5, "handed")


def test_records_that_were_there_before_are_shared(tmp_path: Path) -> None:
    leader, worker = pair(tmp_path, "file")
    leader.folder.write_trial(record(0))
    leader.adopt([record(0)])
    assert leader.new_records() == []
    assert worker.new_records() == [record(0)]


def test_an_unknown_url_says_what_fits(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nonsense://x.*s3://bucket/path"):
        RecordSync(StudyDir(tmp_path), "nonsense://x")
