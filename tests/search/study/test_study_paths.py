"""A study folder may have any name that a file system takes, and shows itself under its own."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from threading import Thread

import optuna
import pytest

from olivine.search.report.dashboard.server import open_server
from olivine.search.report.dashboard.storage import ShownStorage
from olivine.search.study_dir import StudyDir

NAMES = ["lr%20x", "a?b", "a#b", "50%", "{x}", "a b", "naïve", "a:b@c", "per%2Fcent"]


@pytest.mark.parametrize("name", NAMES)
def test_the_database_lies_in_the_folder_whatever_its_name_means_in_a_url(name: str, tmp_path: Path) -> None:
    folder = StudyDir(tmp_path / name)
    folder.root.mkdir()
    for _ in range(2):
        study = optuna.create_study(storage=folder.database_url, study_name="olivine", load_if_exists=True)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert folder.database_path.is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert len(optuna.load_study(study_name="olivine", storage=folder.database_url).trials) == 1


def test_the_dashboard_shows_the_study_under_its_own_name(tmp_path: Path) -> None:
    folder = StudyDir(tmp_path / "a?b")
    folder.root.mkdir()
    folder.config_path.write_text("name: my-study\nmodel: m\nobjectives: [tpot_ms, perplexity_ratio]\n")
    optuna.create_study(storage=folder.database_url, study_name="olivine", directions=["minimize", "minimize"])
    with open_server(folder, 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/api/studies") as answer:
            studies = json.load(answer)["study_summaries"]
        server.shutdown()
    assert [study["study_name"] for study in studies] == ["my-study"]


def test_the_study_is_found_by_its_own_name_and_others_keep_theirs(tmp_path: Path) -> None:
    url = StudyDir(tmp_path).database_url
    optuna.create_study(storage=url, study_name="olivine")
    optuna.create_study(storage=url, study_name="of somebody")
    shown = ShownStorage(url, "mine")
    assert [study.study_name for study in shown.get_all_studies()] == ["mine", "of somebody"]
    assert optuna.load_study(study_name="mine", storage=shown).study_name == "mine"
    assert optuna.load_study(study_name="of somebody", storage=shown).study_name == "of somebody"
