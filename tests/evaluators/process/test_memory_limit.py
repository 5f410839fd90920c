from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from olivine.evaluators.process import cgroup
from olivine.evaluators.process import memory_limit as memory_watch
from olivine.evaluators.process.cgroup import MemoryGroup
from olivine.evaluators.process.memory_limit import MemoryWatch, reserve_bytes

GREEDY = "held = []\nwhile True: held.append(b'x' * 5_000_000)"
LIMIT = 200_000_000


def start(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_the_kernel_ends_a_child_that_nobody_watches_and_says_so() -> None:
    group = MemoryGroup.create(LIMIT)
    if group is None:
        pytest.skip("no control group may be made here")
    child = start(f"input()\n{GREEDY}")
    assert group.add(child.pid)
    assert not group.killed()
    child.communicate(b"\n", timeout=60)
    assert child.returncode == -9
    assert group.killed()
    assert 0.9 * LIMIT < group.peak_bytes() <= 1.01 * LIMIT
    excess = MemoryWatch(child.pid, LIMIT, group).killed()
    assert excess is not None
    assert excess.limit_bytes == LIMIT
    group.close()
    assert not group.folder.exists()


def test_without_groups_allocations_fail_behind_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_watch.MemoryGroup, "create", lambda limit_bytes: None)
    monkeypatch.setattr(memory_watch, "_UNTOUCHED", 0)
    child = start(f"input()\n{GREEDY}")
    watch = MemoryWatch.start(child.pid, LIMIT)
    assert watch.group is None
    child.communicate(b"\n", timeout=60)
    assert child.returncode == 1  # MemoryError


def test_groups_of_processes_that_are_gone_are_swept() -> None:
    found = cgroup._own()
    if found is None or MemoryGroup.create(LIMIT) is None:
        pytest.skip("no control group may be made here")
    left = found[0] / "olivine-999999999-0"
    left.mkdir()
    own = [folder for folder in found[0].glob(f"olivine-{os.getpid()}-*") if folder.is_dir()]
    cgroup.sweep()
    assert not left.exists()
    assert all(folder.is_dir() for folder in own)
    for folder in own:
        folder.rmdir()


def test_without_a_limit_the_machine_keeps_some_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = MemoryWatch(os.getpid(), None)
    assert watch.excess() is None
    monkeypatch.setattr(memory_watch, "rss_bytes", lambda pid: 5 * reserve_bytes())
    assert watch.excess() is None
    monkeypatch.setattr(memory_watch, "available_bytes", lambda: reserve_bytes() - 1)
    excess = watch.excess()
    assert excess is not None
    assert excess.left_bytes == reserve_bytes() - 1
    assert "were left to the machine" in str(excess)
    small = MemoryWatch(os.getpid(), None)
    monkeypatch.setattr(memory_watch, "rss_bytes", lambda pid: reserve_bytes() // 2)
    monkeypatch.setattr(memory_watch, "peak_rss_bytes", lambda pid: 5 * reserve_bytes())
    assert small.excess() is None, "what it gave back is not the machine's trouble"


def test_children_are_the_first_to_go_when_memory_runs_out(tmp_path: Path) -> None:
    begin = "from olivine.evaluators.process.lifecycle import begin; begin()"
    code = f"{begin}; print(open('/proc/self/oom_score_adj').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1000"
