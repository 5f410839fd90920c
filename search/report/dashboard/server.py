"""optuna-dashboard on a study folder: our front, a note and files per trial; on this machine only."""

from __future__ import annotations

import shlex
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from olivine.passes.errors import UsageError
from olivine.search.report.dashboard.artifacts import artifact_store, attach, trial_files
from olivine.search.report.dashboard.notes import study_note, trial_note
from olivine.search.report.plots.front import draw_front, plot_pairs
from olivine.search.report.plots.front_plotly import front_figure
from olivine.search.report.study_view import read_view
from olivine.search.study_dir import StudyDir

if TYPE_CHECKING:
    import optuna

HOST = "127.0.0.1"
DEFAULT_PORT = 8080


def publish(study: optuna.Study, study_dir: StudyDir) -> None:
    """Put our front, a note per trial and its files where the dashboard finds them; again, to update them.

    Everything goes into attributes of the study, since Optuna forbids to change a trial that has ended; what
    is there already is not written again, so publishing after every trial is cheap.
    """
    from optuna_dashboard import save_plotly_graph_object
    from optuna_dashboard._custom_plot_data import get_plotly_graph_objects

    present = study._storage.get_study_system_attrs(study._study_id)
    figures = get_plotly_graph_objects(present)
    view = read_view(study_dir)
    for x, y in plot_pairs(view.objectives):
        figure, name = front_figure(draw_front(view, x, y), view.name), f"front-{x}-{y}"
        if figures.get(name) != figure.to_json():
            save_plotly_graph_object(study, figure, graph_object_id=name)
    _save_note(study, present, None, study_note(view))
    records = {record.number: record for record in view.records}
    for trial in study.get_trials(deepcopy=False):
        if (record := records.get(trial.number)) is not None:
            _save_note(study, present, trial._trial_id, trial_note(record, view))
            attach(study, present, trial._trial_id, trial_files(study_dir, record.number), study_dir)


def _save_note(study: optuna.Study, present: dict[str, Any], trial_id: int | None, body: str) -> None:
    """Write a note where its text has changed: publishing the same again must not add versions."""
    from optuna_dashboard._note import get_note_from_system_attrs, note_ver_key, save_note_with_version

    # save_note itself takes a running trial or the study, but no trial that has ended.
    if get_note_from_system_attrs(present, trial_id)["body"] != body:
        version = int(present.get(note_ver_key(trial_id), 0)) + 1
        save_note_with_version(study._storage, study._study_id, trial_id, version, body)


def command(study_dir: StudyDir) -> str:
    """The command that shows the dashboard of this study."""
    return f"olivine dashboard {shlex.quote(str(study_dir.root))}"


def serve(study_dir: StudyDir, port: int = DEFAULT_PORT) -> None:
    """Serve the dashboard on the loopback interface until interrupted; prints the URL first.

    Raises:
        UsageError: when the folder has no database, or the port can't be used.
    """
    with open_server(study_dir, port) as server:
        print(f"http://{HOST}:{server.server_port}/dashboard  (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def open_server(study_dir: StudyDir, port: int) -> WSGIServer:
    """The dashboard's server, bound but not yet serving; port 0 takes any free one.

    Raises:
        UsageError: as :func:`serve`.
    """
    from optuna_dashboard import wsgi

    from olivine.search.report.dashboard.storage import ShownStorage

    if not study_dir.database_path.is_file():
        raise UsageError(
            f"{study_dir.root} holds no study.db: the study keeps its trials elsewhere, or has none. "
            "'olivine report' needs no database."
        )
    storage = ShownStorage(study_dir.database_url, read_view(study_dir).name)
    app = wsgi(storage, artifact_store=artifact_store(study_dir))
    try:
        return make_server(HOST, port, app, server_class=_ThreadedServer, handler_class=_QuietHandler)
    except (OSError, OverflowError) as error:
        raise UsageError(f"Port {port} of {HOST} can't be used ({error}). Give another one with --port.") from error


class _ThreadedServer(ThreadingMixIn, WSGIServer):
    """The page asks for several things at once."""

    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    """No line per request."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
