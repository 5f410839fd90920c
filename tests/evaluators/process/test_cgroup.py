"""Both versions of control groups, on trees made here as a kernel would show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from olivine.evaluators.process.cgroup import MemoryGroup, sweep
from olivine.evaluators.process.memory_limit import MemoryWatch

LIMIT = 200_000_000


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An empty place for hierarchies, beside the kernel's account of them."""
    (tmp_path / "proc").mkdir()
    return tmp_path / "fs"


def proc(tree: Path) -> Path:
    return tree.parent / "proc"


def write_account(tree: Path, mounts: str, groups: str) -> None:
    (proc(tree) / "mountinfo").write_text(mounts)
    (proc(tree) / "cgroup").write_text(groups)


def version_2(tree: Path, group: str = "/user.slice", controllers: str = "cpu memory pids", root: str = "/") -> Path:
    """The group of this process in a unified hierarchy."""
    mount = f"35 24 0:30 {root} {tree} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
    write_account(tree, "24 1 0:22 / /sys rw - sysfs sysfs rw\n" + mount, f"0::{group}\n")
    home = tree / Path(group).relative_to(root)
    home.mkdir(parents=True)
    (home / "cgroup.controllers").write_text(f"{controllers}\n")
    return home


def version_1(tree: Path, group: str = "/job", root: str = "/") -> Path:
    """The group of this process in the memory hierarchy of version 1, beside a unified one without controllers."""
    memory, unified = tree / "memory", tree / "unified"
    mounts = (
        f"33 31 0:31 {root} {memory} rw,relatime - cgroup cgroup rw,memory\n"
        f"34 31 0:32 / {tree / 'cpu'} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        f"41 31 0:38 / {unified} rw,relatime - cgroup2 cgroup2 rw\n"
    )
    write_account(tree, mounts, f"5:cpu,cpuacct:/\n4:memory:{group}\n0::/\n")
    unified.mkdir(parents=True)
    (unified / "cgroup.controllers").write_text("")
    home = memory / Path(group).relative_to(root)
    home.mkdir(parents=True)
    return home


def group_in(tree: Path) -> MemoryGroup:
    group = MemoryGroup.create(LIMIT, proc(tree))
    assert group is not None
    return group


def test_version_2_limits_memory_and_forbids_swap(tree: Path) -> None:
    home = version_2(tree)
    group = group_in(tree)
    assert group.folder.parent == home
    assert (home / "cgroup.subtree_control").read_text() == "+memory"
    assert (group.folder / "memory.max").read_text() == str(LIMIT)
    assert (group.folder / "memory.swap.max").read_text() == "0"
    assert group.add(4711)
    assert (group.folder / "cgroup.procs").read_text() == "4711"


def test_version_2_tells_who_was_ended_and_the_peak(tree: Path) -> None:
    version_2(tree)
    group = group_in(tree)
    assert not group.killed()
    assert group.peak_bytes() == 0  # kernels before 5.19 have no memory.peak
    (group.folder / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 1\noom_kill 0\noom_group_kill 0\n")
    assert not group.killed()
    (group.folder / "memory.events").write_text("low 0\nhigh 0\nmax 31\noom 1\noom_kill 2\noom_group_kill 0\n")
    (group.folder / "memory.peak").write_text("210000000\n")
    assert group.killed()
    excess = MemoryWatch(4711, LIMIT, group).killed()
    assert excess is not None
    assert (excess.peak_bytes, excess.limit_bytes) == (210_000_000, LIMIT)


def test_version_1_limits_memory_and_swap_together(tree: Path) -> None:
    home = version_1(tree)
    group = group_in(tree)
    assert group.folder.parent == home
    assert (group.folder / "memory.limit_in_bytes").read_text() == str(LIMIT)
    assert (group.folder / "memory.memsw.limit_in_bytes").read_text() == str(LIMIT)
    (group.folder / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
    (group.folder / "memory.max_usage_in_bytes").write_text("199999488\n")
    assert group.killed()
    assert group.peak_bytes() == 199_999_488


@pytest.mark.parametrize("version", [version_1, version_2])
def test_in_a_container_only_its_part_of_the_hierarchy_is_mounted(tree: Path, version: object) -> None:
    assert callable(version)
    home = version(tree, group="/docker/4a5b", root="/docker/4a5b")
    assert group_in(tree).folder.parent == home


@pytest.mark.parametrize("controllers", ["", "cpu pids"])
def test_without_the_memory_controller_there_is_no_group(tree: Path, controllers: str) -> None:
    home = version_2(tree, controllers=controllers)
    assert MemoryGroup.create(LIMIT, proc(tree)) is None
    assert [path.name for path in home.iterdir()] == ["cgroup.controllers"]


def test_a_system_that_does_not_let_us_leaves_nothing_behind(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As where processes live in the group itself (cgroups(7), "no internal processes"): the controller can't be handed
    # down, and a group below has no memory.max; the kernel creates no file there.
    home = version_2(tree)
    write = Path.write_text

    def as_the_kernel(path: Path, text: str) -> int:
        if path.name == "cgroup.subtree_control":
            raise OSError(16, "Device or resource busy")
        if path.name == "memory.max":
            raise PermissionError(13, "Permission denied")
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", as_the_kernel)
    assert MemoryGroup.create(LIMIT, proc(tree)) is None
    assert [path.name for path in home.iterdir()] == ["cgroup.controllers"]


def test_a_machine_without_control_groups_has_none(tree: Path) -> None:
    assert MemoryGroup.create(LIMIT, proc(tree)) is None
    write_account(tree, "24 1 0:22 / /sys rw - sysfs sysfs rw\n", "0::/\n")
    assert MemoryGroup.create(LIMIT, proc(tree)) is None
    sweep(proc(tree))


def test_groups_of_processes_that_are_gone_are_swept_in_version_2(tree: Path) -> None:
    home = version_2(tree)
    for name in ("olivine-999999999-0", "olivine-1-0", "other-999999999-0"):
        (home / name).mkdir()
    sweep(proc(tree))
    assert sorted(path.name for path in home.iterdir() if path.is_dir()) == ["olivine-1-0", "other-999999999-0"]
