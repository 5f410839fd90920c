"""Kills at random moments over the lives of studies: what is lost, measured twice, unreadable or left behind.

A life is a study of a tiny random model from an empty folder and an empty cache to its export. It is killed (SIGKILL)
at random moments, the study's process or any of its children, and resumed until it ends. After every kill and at
the end everything that the folder holds is compared with what it held before.

    python tests/reliability/chaos.py --kills 200 --seconds 240

goes on where an earlier call stopped, so that a long campaign can be run in slices. ``make chaos`` runs all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny_study import tiny_yaml, write_text

HOME = Path("build/chaos")
#: By this variable a study's processes are known, whoever adopted them.
MARK = "OLIVINE_CHAOS"
#: Share of kills that hit the study's own process; the others hit one of its children.
PARENT_SHARE = 0.7
#: Lives end: after this many kills a study is left to finish.
KILLS_A_LIFE = 8
#: Kills in the time that a life takes undisturbed, on average; their moments are a Poisson process.
KILLS_EACH = 4
#: Share of lives that begin with an empty cache; the others find the float graph of the life before.
FRESH_SHARE = 0.34
#: What ONNX Runtime and torch make once a machine and user, and keep.
LIBRARIES_OWN = (".ses", f"torchinductor_{getpass.getuser()}")
#: Processes of a killed study have to be gone after this long.
GONE_S = 10.0
#: A study that shows nothing new for this long hangs.
HANGS_S = 1800.0


@dataclass
class Life:
    """One study: its folders, and what it has held so far."""

    home: Path
    kept: dict[str, bytes] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.home / "study"

    def check(self) -> None:
        """Compare the folder, whoever was killed just now, with what it held before."""
        from olivine.search.study_dir import StudyDir

        folder = StudyDir(self.root)
        records = {path.name: path.read_bytes() for path in sorted((self.root / "trials").glob("[0-9]*.json"))}
        for name, content in self.kept.items():
            if name not in records:
                self.violations.append(f"lost: record {name}")
            elif records[name] != content:
                self.violations.append(f"lost: record {name} was written again")
        self.kept = {name: c for name, c in records.items() if not _failed_base(name, c)}
        if not folder.config_path.is_file():
            return
        try:
            self._read(folder)
        except Exception as error:  # whatever it is, the folder can't be read: that is the finding
            cause = error.__cause__ or error.__context__
            self.violations.append(f"unreadable: {type(error).__name__}: {error} ({cause!r})")

    def _read(self, folder: Any) -> None:
        from olivine.search.config.load import load_config
        from olivine.search.report.report import render

        load_config(folder.config_path)
        told = _told(self.root)  # before the records, which a study that lives may add to meanwhile
        records = {record.number: record for record in folder.trials()}
        if records:
            render(folder)
        for number, (state, _) in told.items():
            if state == "COMPLETE" and number not in records:
                self.violations.append(f"lost: trial {number} is COMPLETE in the database and has no record")

    def check_end(self, sequence: list[str]) -> list[str]:
        """Check a study that has ended; returns the recipes that it measured, in their order."""
        from olivine.search.export.folder import MANIFEST, file_table
        from olivine.search.study_dir import StudyDir

        self.check()
        records = StudyDir(self.root).trials()
        keys = [record.recipe_key for record in records]
        if len(set(keys)) != len(keys):
            self.violations.append(f"twice: {len(keys) - len(set(keys))} recipes have two records")
        if sequence and keys != sequence:
            self.violations.append(f"sequence: {keys} instead of {sequence}")
        told = _told(self.root)
        for record in records:
            state, values = told.get(record.number, ("missing", None))
            wanted = "PRUNED" if record.state == "failed" else "COMPLETE"
            if state != wanted:
                self.violations.append(f"untold: trial {record.number} ({record.state}) is {state} in the database")
            elif wanted == "COMPLETE" and values != [record.value("tpot_ms"), record.value("perplexity_ratio")]:
                self.violations.append(f"untold: trial {record.number} has other values in the database")
        if running := [number for number, (state, _) in told.items() if state in ("RUNNING", "WAITING")]:
            self.violations.append(f"untold: trials {running} still run in the database")
        best = self.root / "best"
        if best.exists() and json.loads((best / MANIFEST).read_text())["files"] != file_table(best):
            self.violations.append("unreadable: best/ is not what its manifest says")
        self.violations += [f"left: {path}" for path in self.leftovers()]
        return keys

    def leftovers(self) -> Iterator[str]:
        """Temporary files in all that the study may write to."""
        for place in ("study", "cache", "tmp"):
            for path in sorted((self.home / place).rglob("*")):
                name = path.name
                if name in LIBRARIES_OWN:
                    continue
                hidden = name.startswith(".") and name != ".lock"
                if place == "tmp" or hidden or name.endswith((".tmp", "-journal", "-wal", ".log")):
                    yield str(path.relative_to(self.home))


def _failed_base(name: str, content: bytes) -> bool:
    """A base that did not run is no finished trial: the next run tries it again."""
    return name == "0000.json" and json.loads(content)["state"] != "complete"


def _has_tables(database: Path) -> bool:
    """Whether a database is there, and not just being made by a study that lives."""
    if not database.is_file():
        return False
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    return {"version_info", "studies", "trials", "alembic_version"} <= tables


def _told(root: Path) -> dict[int, tuple[str, list[float] | None]]:
    """Number -> state and values of every trial in the database."""
    import optuna

    if not _has_tables(root / "study.db"):
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(root / 'study.db').resolve()}",
        engine_kwargs={"connect_args": {"timeout": 60}},  # the study may be writing, on a busy disk
        skip_table_creation=True,
    )
    try:
        if not (studies := storage.get_all_studies()):
            return {}
        trials = storage.get_all_trials(studies[0]._study_id)
        return {t.number: (t.state.name, t.values if t.values else None) for t in trials}
    finally:
        storage.engine.dispose()


def start(life: Life, config: Path) -> int:
    """Fork a process that runs or resumes the study, as ``olivine run`` does; returns its id.

    It is forked from this process, which has imported olivine: a second of imports a kill is saved, in which
    nothing is on the disk yet. Its children are started afresh, as always.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        os.environ[MARK] = str(life.home)
        os.environ["OLIVINE_CACHE"], os.environ["TMPDIR"] = str(life.home / "cache"), str(life.home / "tmp")
        said = os.open(life.home / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        from olivine.search.cli.main import main

        code = main(["--debug", "run", str(config), "--out", str(life.root)])
    except BaseException:  # it must not go on as a second campaign
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def family(life: Life) -> list[int]:
    """The living processes of a study, its own included."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            marked = f"{MARK}={life.home}".encode() in (entry / "environ").read_bytes().split(b"\0")
            alive = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
        except OSError:  # it has just ended
            continue
        if marked and alive:
            found.append(int(entry.name))
    return found


def _named(pid: int) -> str:
    """A process in words."""
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        return f"process {pid} ({b' '.join(words).decode(errors='replace').strip()}; state {state})"
    return f"process {pid}"


def descendants(pid: int) -> list[int]:
    """Ids of all that a process has started."""
    import psutil

    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def wait(pid: int, seconds: float) -> int | None:
    """The exit code of a process, or None where it still runs after so long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    return None


@dataclass
class Campaign:
    """Lives and kills, one JSON line each, kept between calls."""

    home: Path
    kills: int
    rng: random.Random = field(default_factory=random.Random)

    @property
    def log(self) -> Path:
        return self.home / "kills.jsonl"

    def lines(self) -> list[dict[str, Any]]:
        """What is logged so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def note(self, **about: Any) -> None:
        """Log one event."""
        with self.log.open("a") as stream:
            stream.write(json.dumps(about) + "\n")

    def done(self) -> int:
        """Kills that happened, in lives that were followed to their end."""
        return sum(line["kills"] for line in self.lines() if line["event"] == "life")

    def run(self, seconds: float) -> None:
        """Live lives until the kills are done or the time is over; a life that has begun is finished."""
        end = time.monotonic() + seconds
        self.home.mkdir(parents=True, exist_ok=True)
        config = self._config()
        if not any(line["event"] == "reference" for line in self.lines()):
            self._reference(config)
        while self.done() < self.kills and time.monotonic() < end:
            self._life(config)

    def _config(self) -> Path:
        from tiny import tiny_checkpoint

        path = self.home.resolve() / "tiny.yaml"
        if not path.exists():
            model = tiny_checkpoint(self.home.resolve() / "model", layers=1)
            raw = tiny_yaml(model, write_text(self.home.resolve() / "text.txt"), stop={"trials": 3})
            raw["sampler"] = {"name": "tpe"}
            raw["confirm"] = {"members": 1}
            raw["evaluation"]["windows"] = 2
            raw["evaluation"]["latency"] |= {"max_seconds": 0.1, "new_tokens": 2}
            raw["space"]["threads"] = 1
            path.write_text(yaml.safe_dump(raw))
        return path

    def _new(self) -> Life:
        home = self.home.resolve() / "life"
        for part in ("study", "tmp", *(["cache"] if self.rng.random() < FRESH_SHARE else [])):
            shutil.rmtree(home / part, ignore_errors=True)
        (home / "said.txt").unlink(missing_ok=True)
        (home / "tmp").mkdir(parents=True)
        return Life(home)

    def _reference(self, config: Path) -> None:
        """A life without kills: its length, and the recipes that it measures."""
        life, started = self._new(), time.monotonic()
        if (code := wait(start(life, config), HANGS_S)) != 0:
            raise SystemExit(f"the study ends with {code} without a kill:\n{(life.home / 'said.txt').read_text()}")
        keys = life.check_end([])
        if life.violations:
            raise SystemExit(f"without a kill: {life.violations}")
        self.note(event="reference", seconds=time.monotonic() - started, sequence=keys)

    def _life(self, config: Path) -> None:
        reference = next(line for line in self.lines() if line["event"] == "reference")
        length = reference["seconds"]
        life, kills, codes = self._new(), [], []
        while True:
            pid = start(life, config)
            code = None
            while code is None:
                last = len(kills) >= KILLS_A_LIFE or self.done() + len(kills) >= self.kills
                code = wait(pid, HANGS_S if last else self.rng.expovariate(KILLS_EACH / length))
                if code is not None:
                    break
                if last:
                    life.violations.append(f"hangs: no end within {HANGS_S:g} s")
                    os.kill(pid, signal.SIGKILL)
                kills.append(self._kill(pid))
                if kills[-1] == "study":
                    code = wait(pid, GONE_S)
                    deadline = time.monotonic() + GONE_S
                    while (left := family(life)) and time.monotonic() < deadline:
                        time.sleep(0.02)
                    life.violations += [f"leaked: {_named(one)} outlives its study" for one in left]
                    for one in left:
                        os.kill(one, signal.SIGKILL)
                life.check()
            codes.append(code)
            if code not in (-signal.SIGKILL, 1):
                break
            if len(codes) > 40:
                life.violations.append("hangs: 40 runs did not end the study")
                break
        if code not in (0, 3):
            life.violations.append(f"broken: the last run ended with {code}")
        if left := family(life):
            life.violations.append(f"leaked: {len(left)} processes outlive a study that ended")
        life.check_end(reference["sequence"])
        for violation in life.violations:
            print(violation, file=sys.stderr)
        if life.violations:
            shutil.copytree(life.home, self.home / f"broken-{time.time_ns()}", symlinks=True)
        self.note(event="life", kills=len(kills), victims=kills, codes=codes, violations=life.violations)
        print(f"{self.done()} of {self.kills} kills; this life: {kills}, {len(life.violations)} violations", flush=True)

    def _kill(self, pid: int) -> str:
        """Kill the study's process or one of its children; returns which."""
        children = descendants(pid) if self.rng.random() >= PARENT_SHARE else []
        victim = self.rng.choice(children) if children else pid
        name = "study" if victim == pid else _name(victim)
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            name = "nobody"
        return name


def _name(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return "child"
    return next((name for name in ("builds.child", "process.server") if name in command), "child")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no new life after so long")
    parser.add_argument("--home", type=Path, default=HOME)
    options = parser.parse_args()
    import optuna_dashboard  # noqa: F401 - imported once, for all forks

    from olivine.search.study import run  # noqa: F401

    campaign = Campaign(options.home, options.kills)
    campaign.run(options.seconds)
    lives = [line for line in campaign.lines() if line["event"] == "life"]
    found = [violation for line in lives for violation in line["violations"]]
    print(f"{campaign.done()} kills in {len(lives)} lives, {len(found)} violations")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
