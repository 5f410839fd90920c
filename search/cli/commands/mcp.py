"""``olivine mcp``: serve olivine's commands as tools of an agent, on standard input and output."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.options import user_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine mcp``."""
    what = "folder that studies and exports are written below; the current one by default"
    parser.add_argument("--root", type=user_path, default=Path(), metavar="DIR", help=what)
    what = "run code that a checkpoint brings, where a YAML says trust_remote_code"
    parser.add_argument("--trust-remote-code", action="store_true", help=what)


def run(options: argparse.Namespace) -> int:
    """Serve until standard input ends."""
    if find_spec("mcp") is None:
        raise UsageError("An agent's server needs mcp, not installed here: pip install 'olivine[mcp]'")
    from olivine.search.cli.mcp_server.server import Rules, make_server

    if not options.root.is_dir():
        raise UsageError(f"--root {options.root}: there is no such folder")
    make_server(Rules(options.root.resolve(), options.trust_remote_code)).run()
    return 0


COMMANDS = (Command("mcp", "serve validate, plan, run, front and export as an agent's tools", add_arguments, run),)
