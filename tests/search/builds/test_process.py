from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.passes.errors import BuildFailed
from olivine.search.builds.process import BuildProcess


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BuildProcess]:
    found = BuildProcess(tmp_path)
    yield found
    found.close()


def test_one_that_dies_between_a_look_and_a_signal_is_told_by_its_build(
    process: BuildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread waits for the build and reaps the process: its id is gone when it should stand still."""
    os.killpg(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with monkeypatch.context() as patch:
        patch.setattr(BuildProcess, "alive", True)
        process.pause()
        process.resume()
    with pytest.raises(BuildFailed, match="died of SIGKILL"):
        process.run(tmp_path / "request.json", tmp_path / "response.json", 10)


#: A build that has not yet asked to end with anybody, as one that is stopped right after its fork.
FORKED = "subprocess.Popen(['sleep', '100'], process_group=process._process.pid, stdout=subprocess.DEVNULL).pid"


@pytest.mark.parametrize("who", ["process._process.pid", FORKED], ids=["the server", "a build"])
def test_who_is_stopped_as_it_starts_ends_with_its_study(who: str, tmp_path: Path) -> None:
    """The study dies at once: its child has not run a line of its own, and can't run one any more."""
    study = (
        "import os, pathlib, signal, subprocess, sys\n"
        "from olivine.search.builds.process import BuildProcess\n"
        "process = BuildProcess(pathlib.Path(sys.argv[1]))\n"
        f"pid = {who}\n"
        "process.pause()\n"
        "print(pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    said = subprocess.run([sys.executable, "-c", study, str(tmp_path)], capture_output=True, text=True)
    assert said.returncode == -signal.SIGKILL
    pid = int(said.stdout)
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("the build process outlives its study")


def test_one_that_missed_the_signal_to_go_on_is_told_again(process: BuildProcess, tmp_path: Path) -> None:
    os.killpg(process._process.pid, signal.SIGSTOP)
    with pytest.raises(BuildFailed, match="ended with exit code 1"):  # there is no request to read
        process.run(tmp_path / "request.json", tmp_path / "response.json", 60)


def test_an_allocation_that_fails_at_the_limit_is_told_as_one(process: BuildProcess, tmp_path: Path) -> None:
    """Where no control group may be made, no kernel ends a build that outgrows its memory: it gets none."""
    process._log_path.write_text("Traceback ...\nMemoryError: Unable to allocate 3.1 GiB")
    limited, unlimited = (MemoryWatch(os.getpid(), limit, peak=500) for limit in (1000, None))
    with pytest.raises(BuildFailed, match="for want of memory") as caught:
        process._answer(1, limited, tmp_path / "response.json")
    assert caught.value.excess is not None
    assert (caught.value.excess.peak_bytes, caught.value.excess.limit_bytes) == (1001, 1000)
    with pytest.raises(BuildFailed, match="ended with exit code 1") as caught:
        process._answer(1, unlimited, tmp_path / "response.json")
    assert caught.value.excess is None


def test_one_that_should_stand_still_does(process: BuildProcess) -> None:
    process.pause()
    process._wake()
    deadline = time.monotonic() + 10
    while psutil.Process(process._process.pid).status() != psutil.STATUS_STOPPED and time.monotonic() < deadline:
        time.sleep(0.01)
    assert psutil.Process(process._process.pid).status() == psutil.STATUS_STOPPED
