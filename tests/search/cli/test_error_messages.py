"""What a person sees, and what stays on the disk, when the machine around a study is the trouble."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
import study_folder
import yaml
from study_folder import write_study
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.passes.errors import Unwritable, unwritable
from olivine.passes.store.cache import Cache
from olivine.passes.store.secrets import masked, without_secrets
from olivine.search.cli.main import main
from olivine.search.study import open as opening
from olivine.search.study_dir import FORMAT, StudyDir

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def config_of(folder: Path, model: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_yaml(model, write_text(folder / "text.txt"), stop={"trials": 1})))
    return path


def fill_after_the_first_artifact(disk: Path) -> None:
    while not any((disk / "artifacts").glob("[!.]*")):
        time.sleep(0.001)
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


@ROOT_ONLY
def test_a_full_disk_ends_the_study_and_no_candidate_is_blamed(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, tiny_llama)
    with small_disk(tmp_path / "disk", "size=8m") as disk:
        filler = threading.Thread(target=fill_after_the_first_artifact, args=(disk,), daemon=True)
        filler.start()
        monkeypatch.setenv("OLIVINE_CACHE", str(disk))
        assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 1
        said = capsys.readouterr().err
        assert "No space is left on" in said
        assert "run the same command again" in said
        entries = [path.name for path in (disk / "artifacts").iterdir()]
        assert all(Cache(disk).get(name) is not None for name in entries), "what did not fit is half there"
    assert list((tmp_path / "study" / "trials").glob("*")) == []


@ROOT_ONLY
def test_a_record_that_does_not_fit_the_disk_leaves_those_before_it_whole(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=400k") as disk:
        folder = write_study(disk / "study")
        before = {path: path.read_bytes() for path in (folder.root / "trials").iterdir()}
        (disk / "ballast").write_bytes(b"x" * 60_000)
        last = folder.trials()[-1]
        with pytest.raises(OSError, match="No space left") as caught:
            for number in range(last.number + 1, 200):
                folder.write_trial(replace(last, number=number, stderr_tail="x" * 8000))
        assert "No space is left on the disk that holds" in str(unwritable(caught.value))
        after = {path: path.read_bytes() for path in (folder.root / "trials").iterdir()}
        assert {path: after[path] for path in before} == before
        assert not [path for path in after if path.name.startswith(".")]
        assert folder.trials()


@ROOT_ONLY
def test_a_read_only_folder_is_one_clear_error(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, tiny_llama)
    with small_disk(tmp_path / "disk", "ro") as disk:
        assert main(["run", str(config), "--out", str(disk / "study")]) == 1
        said = capsys.readouterr().err
        assert f"{disk / 'study'} can't be written" in said
        assert "--out" in said


OLD = Path(__file__).parents[1] / "study" / "study-0.1.0"
Reopen = Callable[[StudyDir], tuple[optuna.Study, list[int]]]


@pytest.fixture
def reopen(tmp_path: Path, tiny_llama: Path) -> Reopen:
    from tiny_study import tiny_config

    def run(folder: StudyDir) -> tuple[optuna.Study, list[int]]:
        config = tiny_config(tiny_llama, write_text(tmp_path / "text.txt"))
        study, records = opening.reopen(config, folder)
        return study, [record.number for record in records]

    return run


def test_a_locked_database_is_waited_for_and_then_told(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, tiny_llama)
    (tmp_path / "study").mkdir()
    monkeypatch.setattr("olivine.search.study.storage.LOCK_WAIT_S", 0.2)
    holder = sqlite3.connect(tmp_path / "study" / "study.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 1
    assert "study.db is locked" in capsys.readouterr().err
    holder.execute("ROLLBACK")
    holder.close()


def test_a_lost_database_is_made_anew_from_the_records(reopen: Reopen, tmp_path: Path) -> None:
    folder = StudyDir(shutil.copytree(OLD, tmp_path / "study"))
    study, numbers = reopen(folder)
    told = {trial.number: trial for trial in study.trials}
    assert sorted(told) == numbers == [0, 1, 2]
    for record in folder.trials():
        assert told[record.number].values == [record.value("tpot_ms"), record.value("perplexity_ratio")]
        assert told[record.number].user_attrs["recipe_key"] == record.recipe_key
    assert told[1].params == {name: folder.trial(1).params[name] for name in ("precision", "block_size", "lm_head")}


def test_a_damaged_database_says_how_it_is_mended(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, tiny_llama)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.db").write_bytes(b"no database " * 400)
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 1
    assert "move study.db away" in capsys.readouterr().err


def test_trials_that_a_killed_process_left_running_are_reaped_and_told_why(reopen: Reopen, tmp_path: Path) -> None:
    folder = StudyDir(shutil.copytree(OLD, tmp_path / "study"))
    study, _ = reopen(folder)
    lost = study.ask().number
    study, _ = reopen(folder)
    assert study.trials[lost].state == optuna.trial.TrialState.FAIL
    assert "proposed again" in study.trials[lost].user_attrs["reason"]


def test_a_study_folder_of_the_first_version_opens(capsys: pytest.CaptureFixture[str]) -> None:
    assert not (OLD / "format.json").exists()
    assert main(["trials", str(OLD), "--json"]) == 0
    assert [record["number"] for record in json.loads(capsys.readouterr().out)] == [0, 1, 2]
    assert main(["compare", str(OLD), "1", "2"]) == 0


@pytest.mark.parametrize("command", [["trials"], ["report"], ["run"]])
def test_a_study_folder_of_a_newer_version_says_which_one_reads_it(
    command: list[str], tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyDir(shutil.copytree(OLD, tmp_path / "study"))
    folder.format_path.write_text(json.dumps({"format": FORMAT + 1, "olivine": "0.9.0"}))
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.root.rglob("*"))
    words = ["run", str(config_of(tmp_path, tiny_llama)), "--out"] if command == ["run"] else command
    assert main([*words, str(folder.root)]) == 2
    said = capsys.readouterr().err
    assert f"format {FORMAT + 1}, written by olivine 0.9.0" in said
    assert "Open it with olivine 0.9.0 or newer" in said
    assert [p for p in before if p[0].name != ".lock"] == sorted(
        (path, path.stat().st_mtime_ns) for path in folder.root.rglob("*") if path.name != ".lock"
    )


def test_a_damaged_record_is_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = StudyDir(shutil.copytree(OLD, tmp_path / "study"))
    (folder.root / "trials" / "0001.json").write_bytes(b'{"number": 1, "sta')
    assert main(["trials", str(folder.root)]) == 2
    assert "0001.json is damaged" in capsys.readouterr().err


def test_a_damaged_record_of_the_base_is_not_to_be_moved_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StudyDir(shutil.copytree(OLD, tmp_path / "study"))
    (folder.root / "trials" / "0000.json").write_bytes(b"")
    assert main(["trials", str(folder.root)]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "put back a copy, or begin the study anew in another folder" in said
    assert "Move it" not in said


@pytest.mark.parametrize("storage", [[], ["--storage", "sqlite:///{}/shared.db"]])
def test_a_study_without_the_record_of_its_base_takes_no_candidate_for_it(
    storage: list[str], tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_study(tmp_path / "study", [study_folder.record(1)], ended=False)
    config = config_of(tmp_path, tiny_llama)
    folder.config_path.write_bytes(config.read_bytes())
    before = folder.environment_path.read_bytes()
    words = ["run", str(config), "--out", str(folder.root), *(word.format(tmp_path) for word in storage)]
    assert main(words) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "no record of its base (trials/0000.json), which its 1 other records" in said
    assert folder.environment_path.read_bytes() == before


def test_a_second_run_is_refused_and_the_lock_dies_with_its_process(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(tmp_path, tiny_llama)
    code = (
        "import sys, time; from pathlib import Path; from olivine.search.study_dir import StudyDir\n"
        "with StudyDir(Path(sys.argv[1])).locked(): print('held', flush=True); time.sleep(600)"
    )
    (tmp_path / "study").mkdir()
    first = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "study")], stdout=subprocess.PIPE)
    assert first.stdout is not None
    assert first.stdout.readline() == b"held\n"
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    said = capsys.readouterr().err
    assert f"is being run by process {first.pid} on" in said
    assert "--out another folder" in said
    assert [path.name for path in (tmp_path / "study").iterdir()] == [".lock"]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    with StudyDir(tmp_path / "study").locked():
        pass


def test_passwords_and_tokens_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "swordfish")
    monkeypatch.setenv("HF_TOKEN", "hf_abcdefghijklmnop")
    text = "postgresql://me:p@ss@host/db, hf_zyxwvutsrqponm; swordfish; sqlite:///study.db https://host:80/x"
    assert masked(text) == "postgresql://me:***@host/db, ***; ***; sqlite:///study.db https://host:80/x"
    left = without_secrets(os.environ)
    assert "HF_TOKEN" not in left
    assert "PATH" in left


def test_trouble_with_a_disk_is_found_behind_whatever_wraps_it() -> None:
    wrapped = RuntimeError("the export failed")
    wrapped.__cause__ = OSError(28, "No space left on device", "/data/x")
    found = unwritable(wrapped)
    assert isinstance(found, Unwritable)
    assert "/data/x" in str(found)
    assert unwritable(ValueError("of another kind")) is None


def test_a_base_that_dies_costs_no_trial(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when the kernel takes it for want of memory: once while trial 1 is timed, once between two trials."""
    evaluate, base_of = PairedDecoderLatency.evaluate, []

    def killed(self: PairedDecoderLatency, candidate: ModelProcess, reference: ModelProcess) -> list[Measurement]:
        if candidate is not reference:
            base_of.append(reference.pid)
            if len(base_of) == 1:
                os.kill(reference.pid, signal.SIGKILL)
        found = evaluate(self, candidate, reference)
        if len(base_of) == 2:
            os.kill(reference.pid, signal.SIGKILL)
        return found

    monkeypatch.setattr(PairedDecoderLatency, "evaluate", killed)
    raw = tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"), stop={"trials": 2}, confirm={"members": 1})
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw))
    assert main(["run", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "study")]) == 0
    said = capsys.readouterr().out
    assert "trial 1: the base's process died under way; base and candidate are loaded again" in " ".join(said.split())
    assert [record.state for record in StudyDir(tmp_path / "study").trials()] == ["complete"] * 3
    assert len(set(base_of[:3])) == 3
