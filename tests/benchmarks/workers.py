"""What more workers bring, and what the storage costs: ``make bench-workers`` writes results/workers.md.

PostgreSQL runs as it would in production (every commit reaches the disk), alone and behind ``olivine proxy``. Trials
only sleep, so that 2 cores can hold 4 workers and what is left is what olivine adds: claims, turns, proposals, records.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna

sys.path.insert(0, str(Path(__file__).parents[1]))

from postgres import postgres_server
from sleepy_worker import OBJECTIVES, SPACE, Sleepy

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores, cpu_name
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.environment import installed
from olivine.search.report.progress import watcher_for
from olivine.search.samplers.proposer import Proposer
from olivine.search.study.candidates import Candidates
from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.open_shared import create_shared
from olivine.search.study.distributed.record_sync import RecordSync
from olivine.search.study.distributed.shared_study import SharedStudy, counted
from olivine.search.study.distributed.worker import Job, LeaderDuties, Worker
from olivine.search.study.optuna_adapter import distributions_of
from olivine.search.study.storage import connect
from olivine.search.study_dir import StudyDir

KEPT = Path("build/bench-workers.json")
WORKER = Path(__file__).parents[1] / "sleepy_worker.py"
CALLS = (
    "create_new_trial",
    "get_all_trials",
    "get_trial",
    "get_study_system_attrs",
    "get_study_user_attrs",
    "set_study_user_attr",
    "set_trial_user_attr",
    "set_trial_system_attr",
    "set_trial_state_values",
)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--to", type=Path, default=Path("results/workers.md"))
    options.add_argument("--seconds", type=float, default=5.0, help="that a trial takes")
    options.add_argument("--rounds", type=int, default=4, help="trials per worker")
    options.add_argument("--history", type=int, default=5000, help="trials that the study has when storage is timed")
    options.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4])
    options.add_argument("--part", choices=("rates", "fill", "costs"), nargs="*", default=["rates", "costs"])
    places = ["PostgreSQL", "gRPC proxy"]
    options.add_argument("--where", choices=places, nargs="+", default=places)
    options.add_argument("--storage", help="a PostgreSQL server that is there already, instead of one of its own")
    given = options.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with nullcontext(given.storage) if given.storage else postgres_server() as url, proxy(url) as proxied:
        places = {"PostgreSQL": url, "gRPC proxy": proxied}
        asked = [where for where in places if where in given.where]
        if {"fill", "costs"} & set(given.part):
            name = fill(url, given.history)
        for where in asked:
            if "rates" in given.part:
                found = {n: trials_per_hour(places[where], n, given.seconds, given.rounds) for n in given.counts}
                keep("rates", where, {"seconds": given.seconds, "of": found})
            if "costs" in given.part:
                keep("costs", where, {"history": given.history, "of": cost(places[where], name)})
    if KEPT.exists() and {"rates", "costs"} <= set(json.loads(KEPT.read_text())):
        write_atomic(given.to, report())
        print(given.to.read_text())


def keep(part: str, where: str, found: dict[str, Any]) -> None:
    """Figures of one part on one storage, so that each can be measured in a quiet moment."""
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    kept.setdefault(part, {})[where] = found
    write_atomic(KEPT, json.dumps(kept))


@contextmanager
def proxy(url: str) -> Iterator[str]:
    """``olivine proxy`` in front of a database."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "olivine.search.cli.main", "proxy", "--storage", url, "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        connect(f"grpc://localhost:{port}")
        yield f"grpc://localhost:{port}"
    finally:
        server.kill()
        server.wait()


def trials_per_hour(url: str, workers: int, seconds: float, rounds: int) -> float:
    """Trials an hour of ``workers`` processes, from the moment when all of them work."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / f"rate-{workers}-{time.time():.0f}"
        command = [sys.executable, str(WORKER), url, str(folder), "--seconds", str(seconds)]
        command += ["--trials", str(workers * (rounds + 4)), "--lease", "60"]
        processes = [
            subprocess.Popen([*command, *(["--lead"] if n == 0 else [])], stdout=subprocess.DEVNULL)
            for n in range(workers)
        ]
        for process in processes:
            if process.wait():
                raise SystemExit(f"a worker ended with exit code {process.returncode}")
        lines = [line.split() for line in (folder / "measured.txt").read_text().splitlines()]
    begun = [(float(at), pid) for _, number, pid, at in lines if number != "0"]
    counts = Counter(pid for _, pid in begun)
    if len(counts) < workers:
        raise SystemExit(f"only {len(counts)} of {workers} workers took part; ask for more --rounds")
    start = max(min(at for at, who in begun if who == pid) for pid in counts)
    end = min(max(at for at, who in begun if who == pid) for pid in counts)
    return 3600 * sum(start < at <= end for at, _ in begun) / (end - start)


def fill(url: str, history: int) -> str:
    """A study with a base and at least ``history`` ended trials, made where it is not there yet; its name."""
    name = f"history-{history}"
    made = create_shared(connect(f"{url}?options=-csynchronous_commit%3Doff"), name, OBJECTIVES, {})
    have = len(made.trials())
    if have == 0:
        made.study.tell(made.study.ask(), [30.0, 1.0])
    made.study.add_trials([past(number) for number in range(have, history)])
    return name


def cost(url: str, name: str) -> dict[str, float]:
    """Milliseconds in the storage per trial, and for a proposal, by one worker in a study that has many trials."""
    trials = 20
    storage = connect(url)  # as a worker that joins now
    found = create_shared(storage, name, OBJECTIVES, {})
    shared = SharedStudy(found.study, found.side, found.parts, WorkerRegistry(storage, found.side))
    started = time.perf_counter()
    budget = len(counted(shared.trials())) + trials
    first_read = time.perf_counter() - started
    spent: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for call in CALLS:
        _watch(storage, call, spent, calls)
    with tempfile.TemporaryDirectory() as scratch:
        folder = StudyDir(Path(scratch))
        proposer = _TimedProposer(Proposer(SPACE, "tpe", 0, 10))
        shared.publish({"budget": budget, "ended": ""})
        candidates = Candidates(LANGUAGE, SPACE, proposer)  # type: ignore[arg-type] # the proposer is a stand-in
        job = Job(OBJECTIVES, lambda record: None, lambda: False, duties=LeaderDuties(budget, lambda: None))
        sleepy, sync = Sleepy(folder.root, 0.0), RecordSync(folder)
        worker = Worker(shared, candidates, sleepy, sync, watcher_for(_quiet()), job)
        with shared.registry:
            worker.work()
    return {
        "first_read": first_read,
        "storage_ms": 1e3 * sum(spent.values()) / trials,
        "calls": sum(calls.values()) / trials,
        "proposal_ms": 1e3 * proposer.seconds / trials,
    }


class _TimedProposer:
    def __init__(self, proposer: Proposer) -> None:
        self._proposer, self.seconds = proposer, 0.0

    def propose(self, *arguments: Any) -> Any:
        started = time.perf_counter()
        found = self._proposer.propose(*arguments)
        self.seconds += time.perf_counter() - started
        return found


def _watch(storage: Any, call: str, spent: Counter[str], calls: Counter[str]) -> None:
    plain = getattr(storage, call)

    def timed(*arguments: Any, **more: Any) -> Any:
        started = time.perf_counter()
        try:
            return plain(*arguments, **more)
        finally:
            spent[call] += time.perf_counter() - started
            calls[call] += 1

    setattr(storage, call, timed)


def past(number: int) -> optuna.trial.FrozenTrial:
    """An ended trial with everything that a real one leaves in the storage."""
    choice = SPACE.suggest(_Random(number))
    params = {name: choice[name] for name in SPACE.searched if name in choice}
    record = Sleepy.record(0, choice)
    metrics = {f"metric_{index}": 1.5 for index in range(20)}
    return optuna.trial.create_trial(
        values=[record.value(name) for name in OBJECTIVES],
        params=params,
        distributions=distributions_of(SPACE, params),
        user_attrs={"recipe_key": LANGUAGE.compose(choice).key, "state": "complete", "metrics": metrics},
        system_attrs={"worker": "past", "choice": json.dumps(choice), "constraints:builds and runs": 0.0},
    )


class _Random:
    """Suggests anything, by a seed."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def suggest_categorical(self, name: str, choices: tuple[Scalar, ...]) -> Any:
        return self._rng.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        return self._rng.randrange(low, high + 1, step)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None) -> float:
        return self._rng.uniform(low, high)


def _quiet() -> Any:
    from rich.console import Console

    return Console(quiet=True)


def report() -> str:
    """results/workers.md, of the parts that were measured."""
    kept = json.loads(KEPT.read_text())
    rates, costs = ({where: found["of"] for where, found in kept[part].items()} for part in ("rates", "costs"))
    seconds = max(found["seconds"] for found in kept["rates"].values())
    history = max(found["history"] for found in kept["costs"].values())
    lines = [
        "# Several workers on one study",
        "",
        f"`make bench-workers` on {cpu_name()}, {available_cores()} cores; Optuna {installed('optuna')}, PostgreSQL 16",
        "on the same machine with every commit on disk.",
        "",
        f"Trials an hour, with trials that sleep {seconds:g} s, from when all workers work; what is",
        "missing to a whole multiple is claims, turns, proposals and records of all workers on these cores:",
        "",
        "| workers | " + " | ".join(rates) + " |",
        "|---|" + "---|" * len(rates),
    ]
    for count in next(iter(rates.values())):
        cells = [f"{by[count]:.0f} ({by[count] / by['1']:.2f}x)" for by in rates.values()]
        lines.append(f"| {count} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"What a trial costs when the study has {history} trials already, mean of 20:",
        "",
        "| | " + " | ".join(costs) + " |",
        "|---|" + "---|" * len(costs),
    ]
    rows = (
        ("storage calls, together", "storage_ms", "{:.0f} ms"),
        ("their number", "calls", "{:.0f}"),
        ("proposal (TPE)", "proposal_ms", "{:.0f} ms"),
        ("first look of a worker that joins, once", "first_read", "{:.1f} s"),
    )
    for title, key, form in rows:
        lines.append(f"| {title} | " + " | ".join(form.format(each[key]) for each in costs.values()) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
