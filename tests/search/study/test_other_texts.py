"""A study that is confirmed on a text of another kind too: what it measures, writes and says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.search.cli.main import main
from olivine.search.front_csv import front_entry, read_front
from olivine.search.study_dir import StudyDir

OTHERS = ("perplexity_ratio.other", "kl_divergence.other")


def write_yaml(folder: Path, model: Path, texts: dict[str, object]) -> None:
    raw = tiny_yaml(model, write_text(folder / "text.txt"), stop={"trials": 2})
    raw["evaluation"]["other_texts"] = texts
    (folder / "tiny.yaml").write_text(yaml.safe_dump(raw))


@pytest.mark.usefixtures("olivine_cache")
def test_confirmation_scores_every_kind_of_text_and_all_results_show_it(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path / "other.txt", documents=30, words=50)
    write_yaml(tmp_path, tiny_llama, {})
    command = ["run", "tiny.yaml", "--out", "study"]
    assert main(command) == 0
    before = StudyDir.open(tmp_path / "study").outcome().confirmed
    assert not [name for metrics in before.values() for name in metrics if name in OTHERS]
    capsys.readouterr()

    write_yaml(tmp_path, tiny_llama, {"other": {"file": "other.txt"}})  # may be added to a finished study
    assert main(command) == 0
    study = StudyDir.open(tmp_path / "study")
    assert all(set(OTHERS) <= set(metrics) for metrics in study.outcome().confirmed.values())
    protocol = study.outcome().metrics[OTHERS[0]].protocol
    assert (protocol["text"], protocol["split"]) == ("other.txt", "confirm")
    assert not any(name in record.metrics for record in study.trials() for name in OTHERS)
    (selected,) = [row for row in read_front(study) if row["selected"] == "True"]
    assert front_entry(selected, OTHERS[1]) is not None
    printed = " ".join(capsys.readouterr().out.split())
    assert "loss on text.txt: ppl ratio" in printed
    assert "loss on other: ppl ratio" in printed
    assert "KL on other" in study.report_path.read_text()
    assert "perplexity ratio on other" in (study.best_path / "README.md").read_text()


@pytest.mark.usefixtures("olivine_cache")
@pytest.mark.parametrize(("words", "message"), [(0, "No file 'other.txt'"), (3, "is too short")])
def test_a_text_that_is_missing_or_too_short_shows_before_any_candidate(
    words: int,
    message: str,
    tiny_llama: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if words:
        write_text(tmp_path / "other.txt", documents=1, words=words)
    write_yaml(tmp_path, tiny_llama, {"other": {"file": "other.txt"}})
    assert main(["run", "tiny.yaml", "--out", "study"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert len(StudyDir(tmp_path / "study").trials()) <= 1
