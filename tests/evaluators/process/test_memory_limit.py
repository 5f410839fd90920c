from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from olivine.evaluators.process.cgroup import MemoryGroup, sweep
from olivine.evaluators.process.memory_limit import MemoryWatch

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


def test_without_groups_allocations_fail_behind_the_limit() -> None:
    child = start(f"input()\n{GREEDY}")
    watch = MemoryWatch.start(child.pid, LIMIT, make_group=lambda limit_bytes: None, untouched=0)
    assert watch.group is None
    child.communicate(b"\n", timeout=60)
    assert child.returncode == 1  # MemoryError


def test_groups_of_processes_that_are_gone_are_swept() -> None:
    group = MemoryGroup.create(LIMIT)
    if group is None:
        pytest.skip("no control group may be made here")
    abandoned = group.folder.parent / "olivine-999999999-0"
    abandoned.mkdir()
    sweep()
    assert not abandoned.exists()
    assert group.folder.is_dir()
    group.close()


def watched(rss: int, peak: int, available: int, limit: int | None = None) -> MemoryWatch:
    """A child on a machine of 20 GB, which keeps 600 MB of them to itself."""
    return MemoryWatch(
        pid=1,
        limit=limit,
        rss_bytes=lambda pid: rss,
        peak_rss_bytes=lambda pid: peak,
        available_bytes=lambda: available,
        total_bytes=lambda: 20_000_000_000,
    )


def test_without_a_limit_the_machine_keeps_some_memory() -> None:
    assert MemoryWatch(os.getpid(), None).excess() is None
    assert watched(3_000_000_000, 3_000_000_000, 600_000_000).excess() is None
    excess = watched(3_000_000_000, 3_000_000_000, 599_999_999).excess()
    assert excess is not None
    assert excess.left_bytes == 599_999_999
    assert "were left to the machine" in str(excess)
    small = watched(300_000_000, 3_000_000_000, 599_999_999)
    assert small.excess() is None, "memory that the child gave back is not the machine's trouble"


def test_a_child_may_take_what_its_limit_and_the_machine_leave() -> None:
    readings = 300_000_000, 300_000_000, 5_000_000_000
    assert watched(*readings).room() == 4_400_000_000
    assert watched(*readings, limit=1_000_000_000).room() == 700_000_000
    assert watched(*readings, limit=200_000_000).room() == 0


def test_children_are_the_first_to_go_when_memory_runs_out(tmp_path: Path) -> None:
    begin = "from olivine.evaluators.process.lifecycle import begin; begin()"
    code = f"{begin}; print(open('/proc/self/oom_score_adj').read())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1000"
