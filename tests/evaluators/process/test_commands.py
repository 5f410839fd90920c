"""Both sides of every command of a model process are there, in files of one name."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from olivine.evaluators.process import commands
from olivine.evaluators.process.server import SERVERS

FILES = [path for path in Path(commands.__path__[0]).glob("*.py") if path.stem != "__init__"]


def requested(path: Path) -> set[str]:
    """Commands that a file of the client sends."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    named = {"request": 1, "request_times": 0}
    return {
        str(ast.literal_eval(call.args[named[call.func.attr]]))
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in named
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_command_is_a_method_of_a_server_in_the_file_of_that_name(path: Path) -> None:
    assert requested(path)
    for command in requested(path):
        owners = [server for server in SERVERS.values() if hasattr(server, command)]
        assert owners, command
        files = {
            Path(inspect.getfile(base)).stem for server in owners for base in server.__mro__ if command in vars(base)
        }
        assert path.stem in files or (path.stem == "decoder" and files & {"genai", "session"}), command


def test_graphs_have_no_commands_of_language_models() -> None:
    assert not any(hasattr(SERVERS["graph"], command) for command in requested(FILES[0].with_name("decoder.py")))
