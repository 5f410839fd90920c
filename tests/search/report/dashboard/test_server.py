from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from browser import chromium
from optuna_dashboard._custom_plot_data import get_plotly_graph_objects
from optuna_dashboard._note import get_note_from_system_attrs
from study_folder import REASON_FAILED, record, write_study

from olivine.passes.errors import UsageError
from olivine.search.report.dashboard.notes import escaped, trial_note
from olivine.search.report.dashboard.server import command, open_server, publish
from olivine.search.report.dashboard.storage import ShownStorage
from olivine.search.report.study_view import read_view
from olivine.search.study_dir import StudyDir

FIGURE = "front-tpot_speedup-perplexity_ratio"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    study = write_study(tmp_path_factory.mktemp("dashboard") / "study")
    publish(load(study), study)
    return study


def load(study: StudyDir) -> optuna.Study:
    return optuna.load_study(study_name="demo", storage=f"sqlite:///{study.database_path}")


def attributes(study: StudyDir) -> dict[str, Any]:
    loaded = load(study)
    found: dict[str, Any] = loaded._storage.get_study_system_attrs(loaded._study_id)
    return found


def trial_id(study: StudyDir, number: int) -> int:
    return int(load(study).trials[number]._trial_id)


def test_the_front_is_a_figure_with_error_bars_and_a_trace_per_kind(published: StudyDir) -> None:
    figure = json.loads(get_plotly_graph_objects(attributes(published))[FIGURE])
    traces = {trace["name"]: trace for trace in figure["data"]}
    lines = {"line of the front", "all layers alike, and the best of these"}
    assert set(traces) == {"other trials", "breaks a constraint", "float base", "front", "selected", *lines}
    assert len(traces["front"]["hovertext"]) == 5
    assert "trial 7, selected" in traces["selected"]["hovertext"][0]
    assert traces["selected"]["text"] == ["trial 7, selected"]
    assert set(traces["front"]["text"]) == {"1", "3", "5", "6", "12"}
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [1.2]
    assert traces["front"]["error_x"]["symmetric"] is False


def test_every_trial_has_a_note_and_its_record_as_a_file(published: StudyDir) -> None:
    found = attributes(published)
    for number in range(16):
        own = trial_id(published, number)
        assert f"Trial {number}: " in get_note_from_system_attrs(found, own)["body"]
        files = [json.loads(v) for k, v in found.items() if k.startswith(f"dashboard:artifacts:{own}:")]
        assert [file["filename"] for file in files] == [f"{number:04d}.json"]
        stored = published.root / "artifacts" / files[0]["artifact_id"]
        assert json.loads(stored.read_text())["number"] == number


def test_publishing_again_changes_nothing(published: StudyDir) -> None:
    before = attributes(published)
    publish(load(published), published)
    assert attributes(published) == before


def test_publishing_again_updates_what_changed(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study")
    publish(load(study), study)
    study.write_trial(replace(record(4), reason="measured again"))
    (study.root / "requests").mkdir()
    (study.root / "requests" / "0004.log").write_text("a warning\n")
    publish(load(study), study)
    found = attributes(study)
    own = trial_id(study, 4)
    note = get_note_from_system_attrs(found, own)
    assert "measured again" in note["body"]
    assert note["version"] == 2
    assert len([k for k in found if k.startswith(f"dashboard:artifacts:{own}:")]) == 2
    assert get_note_from_system_attrs(found, trial_id(study, 5))["version"] == 1


def test_notes_show_text_literally(published: StudyDir) -> None:
    assert escaped("a|b <x> *c*\n`d`") == r"a\|b &lt;x\> \*c\* \`d\`"
    note = trial_note(record(15), read_view(published))
    assert "&lt;of 6\\.0 GB\\> &amp; left" in note
    assert REASON_FAILED not in note


def test_the_page_sees_constraints_and_no_infeasible_trial_as_complete(published: StudyDir) -> None:
    storage = ShownStorage(published.database_url, "demo")
    trials = storage.get_all_trials(1)
    assert trials[7]._system_attrs["constraints"] == [pytest.approx((1.058 - 1.2) / 1.2)]
    assert trials[14].state == optuna.trial.TrialState.PRUNED
    assert storage.get_trial(trials[14]._trial_id).state == optuna.trial.TrialState.PRUNED
    assert load(published).trials[14].state == optuna.trial.TrialState.COMPLETE
    assert 14 not in [t.number for t in storage.get_all_trials(1, states=(optuna.trial.TrialState.COMPLETE,))]


def test_a_busy_port_is_named(published: StudyDir) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} of 127.0.0.1 can't be used"):
            open_server(published, port)


def test_the_server_is_bound_to_loopback_only(published: StudyDir) -> None:
    with open_server(published, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_a_folder_without_a_database_is_refused(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", [], ended=False)
    study.database_path.unlink()
    with pytest.raises(UsageError, match=r"no study\.db"):
        open_server(study, 0)


def test_the_command_can_be_pasted(tmp_path: Path) -> None:
    assert command(StudyDir(Path("results/demo run"))) == "olivine dashboard 'results/demo run'"


@contextmanager
def served(study: StudyDir) -> Iterator[str]:
    """The dashboard in a child process; yields its address."""
    code = "import sys, pathlib; from olivine.search.report.dashboard.server import serve\n"
    code += "from olivine.search.study_dir import StudyDir\n"
    code += "serve(StudyDir(pathlib.Path(sys.argv[1])), 0)"
    with subprocess.Popen([sys.executable, "-c", code, str(study.root)], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            yield child.stdout.readline().split()[0]
        finally:
            child.kill()


@pytest.mark.browser
def test_dashboard_renders_in_a_browser(published: StudyDir, tmp_path: Path) -> None:
    with chromium() as browser, served(published) as address:
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"{address}/studies/1")
        page.get_by_text("olivine: feasible front of demo").wait_for()
        page.get_by_text("decode speedup (more is better)").scroll_into_view_if_needed()
        page.screenshot(path=str(tmp_path / "dashboard.png"), full_page=True)
        page.goto(f"{address}/studies/1/trials?numbers=14")
        page.get_by_text("Trial 14: infeasible").wait_for()
        assert page.get_by_text("0014.json").count() > 0
        assert "Best Trial" not in page.get_by_text("Trial 14 (trial_id=15)").locator("..").inner_text()
        page.screenshot(path=str(tmp_path / "trial.png"), full_page=True)
        page.goto(f"{address}/studies/1/note")
        page.get_by_text("It is the knee of the confirmed front").wait_for()
