"""Ctrl-C: once finishes the running trial, twice stops at once; what was measured stays, and the command goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.search.cli.main import main
from olivine.search.study.interrupt import finish_trial_on_interrupt
from olivine.search.study_dir import StudyDir


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
    command = [sys.executable, "-m", "olivine.search.cli.main", "run", str(config), "--out", str(out)]
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

    # Twice stops now: the running trial is given up, and what was measured stays as it was.
    request = out / "requests" / f"{len(before):04d}.request.json"
    request.unlink(missing_ok=True)  # its build had begun ahead, before the study stopped
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(request, process)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "Ctrl-C again stops now" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert not any(child.is_running() for child in family)
    assert [record for record in StudyDir.open(out).trials() if record.number < len(before)] == before

    assert main(["run", str(config), "--out", str(out)]) == 0
    after = StudyDir.open(out).trials()
    assert [r.recipe_key for r in after[: len(before)]] == [r.recipe_key for r in before]
    assert len(after) == 5


def test_the_first_ctrl_c_says_what_the_second_one_does() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), finish_trial_on_interrupt(said.append) as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        assert said == [
            "stopping when the running trial has ended; Ctrl-C again stops now, and that trial is measured anew later"
        ]
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_reboot_or_a_closed_terminal_stops_like_ctrl_c(number: signal.Signals, tmp_path: Path) -> None:
    code = (
        "import sys; from olivine.search.cli.main import main; from olivine.search.export import chat\n"
        "def wait(*arguments):\n"
        "    import time\n"
        "    try: print('ready', flush=True); time.sleep(600)\n"
        "    finally: open(sys.argv[1], 'w').write('cleaned up')\n"
        "chat.chat = wait; sys.exit(main(['chat', 'folder']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "end")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert (tmp_path / "end").read_text() == "cleaned up"
