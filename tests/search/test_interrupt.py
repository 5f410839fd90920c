"""Ctrl-C: once finishes the running trial, and what was measured stays; the same command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.search.cli import main
from olivine.search.records import StudyDir


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


def test_an_interrupted_study_keeps_its_trials_and_resumes(tmp_path: Path, tiny_llama: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"))))
    out = tmp_path / "study"
    command = [sys.executable, "-m", "olivine.search.cli", "run", str(config), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(out / "trials" / "0001.json", process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[1]

    assert process.returncode == 130
    assert f"olivine run {config} --out {out}" in said
    assert not any(child.is_running() for child in family)
    before = StudyDir.open(out).trials()
    assert 2 <= len(before) < 5
    assert (out / "report.html").is_file()

    assert main(["run", str(config), "--out", str(out)]) == 0
    after = StudyDir.open(out).trials()
    assert [r.recipe_key for r in after[: len(before)]] == [r.recipe_key for r in before]
    assert len(after) == 5
