"""Several workers on one study, with a real PostgreSQL server: no trial lost, none measured twice."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from optuna.storages import _CachedStorage
from optuna.trial import TrialState
from postgres import postgres_server

from olivine.search.study.storage import connect

pytestmark = pytest.mark.postgres
WORKER = Path(__file__).parents[3] / "sleepy_worker.py"
TRIALS, SECONDS = 60, 0.15


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server("fsync=off") as url:
        yield url


@pytest.fixture(scope="module")
def proxy(postgres: str) -> Iterator[str]:
    """``olivine proxy`` in front of the server."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "olivine.search.cli.main", "proxy", "--storage", postgres, "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"grpc://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def trials_in(url: str, name: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of a study; no connection stays open."""
    storage = connect(url)
    try:
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.remove_session()
        if isinstance(storage, _CachedStorage):
            storage._backend.engine.dispose()


def start(stack: ExitStack, url: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(WORKER), url, str(folder), "--trials", str(TRIALS), "--seconds", str(SECONDS), *more]
    worker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
    stack.callback(worker.kill)
    return worker


def measured(folder: Path) -> list[list[str]]:
    """Recipe key, trial number and process of every measurement that was begun, and when."""
    path = folder / "measured.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("through", ["postgres", "proxy"])
def test_a_killed_worker_loses_no_trial_and_none_is_measured_twice(
    through: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url, folder = request.getfixturevalue(through), tmp_path / f"study-{through}"
    with ExitStack() as stack:
        workers = [start(stack, url, folder, "--lead")] + [start(stack, url, folder) for _ in range(2)]
        victim = workers[2]
        deadline = time.monotonic() + 120
        while sum(int(pid) == victim.pid for _, _, pid, _ in measured(folder)) < 3:
            assert time.monotonic() < deadline, workers[0].communicate()[0]
            time.sleep(0.005)
        victim.send_signal(signal.SIGKILL)
        said = workers[0].communicate(timeout=120)[0]
        assert workers[0].returncode == 0, said
        other = workers[1].communicate(timeout=60)[0]
        assert workers[1].returncode == 0, other

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    trials = trials_in(url, folder.name)
    ended = [trial for trial in trials[1:] if trial.state == TrialState.COMPLETE]
    keys = [trial.user_attrs["recipe_key"] for trial in ended]
    assert len(ended) == len(set(keys)) == TRIALS

    lost = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(lost) == 1, "the victim was killed within one trial"
    assert f"its trial {lost[0].number} is given to another" in said + other
    assert lost[0].user_attrs["recipe_key"] in keys, "another worker has done it"
    assert len(trials) == TRIALS + 2
    pids = {key: pid for key, _, pid, _ in measured(folder)}
    assert int(pids[lost[0].user_attrs["recipe_key"]]) != victim.pid

    begun = [key for key, *_ in measured(folder)]
    assert len(begun) == TRIALS + 2, "only the lost candidate was begun twice, and the base once"
    records = [json.loads(path.read_text()) for path in sorted((folder / "trials").glob("*.json"))]
    assert [r["number"] for r in records] == [0] + [trial.number for trial in ended]
