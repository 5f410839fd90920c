"""Files and folders that are whole or absent after a crash, a kill or a power loss; and what was left half-made.

A rename is atomic, but only for processes that go on: after a power loss a name may be there without its bytes, or
neither of them, until both the file and its folder have been synced (fsync(2), and "All File Systems Are Not Created
Equal", OSDI 2014). So everything is written aside, synced, renamed, and the folder is synced too.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: ``.report.html.4711@host.tmp``: what process 4711 of that machine writes aside; folders may be shared by machines.
_STAGED = re.compile(r"^\..+\.(\d+)@(.*)\.tmp$")
#: Names of standard output as a file to write.
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; the file there is synced and renamed to ``path`` when the block ends well.

    A reader sees the old file or the new one, never half of one, and after a power loss as well.
    """
    make_folder(path.parent)
    temporary = staging_name(path)
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.errno:  # a failed write does not say where; an error without a number can't
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, text: str) -> None:
    """Write aside, sync, rename, sync the folder: there is the old file or the new one, never half of it."""
    with staged(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_target(path: Path, text: str) -> None:
    """Write to a file that a person names: ``-`` is standard output, a link stands for its file, devices are kept."""
    if str(path) in STANDARD_OUTPUT:
        sys.stdout.write(text)
    elif path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        write_atomic(Path(os.path.realpath(path)), text)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, where they are not there; after a power loss they still are."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


@contextmanager
def staging_folder(home: Path, name: str) -> Iterator[Path]:
    """An empty folder in ``home`` that goes when the block ends, or with :func:`remove_stale` after a kill."""
    home.mkdir(parents=True, exist_ok=True)
    folder = staging_name(home / f"{name}-{secrets.token_hex(4)}")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def staging_name(path: Path) -> Path:
    """Name of ``path`` in this process while it is being made."""
    return path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.tmp")


def sync(path: Path) -> None:
    """Bring a file's bytes, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring a folder to the disk with all that is in it; a hard link to a file that was synced before costs little."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            sync(Path(place) / name)
        sync(Path(place))


def replace_folder(new: Path, to: Path) -> None:
    """Rename the folder ``new`` to ``to``, which may exist: it is then replaced in one step.

    What was at ``to`` is deleted. Both have to lie in one file system.
    """
    sync_tree(new)
    if to.exists():
        _exchange(new, to)
        sync(to.parent)
        shutil.rmtree(new)
    else:
        new.rename(to)
        sync(to.parent)


def _exchange(a: Path, b: Path) -> None:
    """Swap two folders, by renameat2(2) in one step; where the file system can't, in three."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return
    if (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(b))
    third = a.with_name(f"{a.name}.old")
    b.rename(third)
    a.rename(b)
    third.rename(a)


def remove_stale(folder: Path) -> None:
    """Delete what processes of this machine that are gone had left half-made in ``folder`` or below it."""
    for path in list(folder.rglob(".*.tmp")):
        name = _STAGED.match(path.name)
        if name is None or name[2] != platform.node() or _lives(int(name[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
