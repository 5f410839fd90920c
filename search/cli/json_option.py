"""``--json`` of a command: its answer for other programs, on standard output or in a file."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from olivine.passes.store.atomic_files import STANDARD_OUTPUT, write_target
from olivine.search.cli.options import target_file

if TYPE_CHECKING:
    from olivine.search.answers.shape import Answer

OPTION = "--json"
#: Commands whose FILE may have any name, as it could before other commands had the option.
_ANY_NAME = ("bench", "eval")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Declare ``--json [FILE]``."""
    what = "the answer as JSON (search/answers/README.md), on standard output, where nothing else goes then, or in FILE"
    parser.add_argument(OPTION, nargs="?", const=Path(STANDARD_OUTPUT[0]), type=target_file, metavar="FILE", help=what)


def json_words(words: Sequence[str]) -> list[str]:
    """The words of a command line, with the value of a bare ``--json`` said.

    The word after it is its FILE where that is ``-``, a device, or a name that ends in ``.json``; any other is an
    argument of the command, such as the study in ``olivine trials --json STUDY``.
    """
    any_name = any(word in _ANY_NAME for word in words[:2])
    said: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*said, word, *rest]
        if word == OPTION:
            word = f"{OPTION}={rest.pop(0) if rest and _is_file(rest[0], any_name) else STANDARD_OUTPUT[0]}"
        said.append(word)
    return said


def _is_file(word: str, any_name: bool) -> bool:
    if word in STANDARD_OUTPUT or word.endswith(".json") or word.startswith("/dev/"):
        return True
    return any_name and not word.startswith("-") and not Path(word).expanduser().is_dir()


@contextmanager
def answer_apart(options: argparse.Namespace) -> Iterator[None]:
    """Keep standard output for the answer of a command where ``--json`` asks for it; all else goes to standard error.

    The answer is written when the command has ended, also where it ended with an error.
    """
    options.answer = ""
    if str(getattr(options, "json", None)) not in STANDARD_OUTPUT:
        yield
        return
    try:
        with _descriptor_apart(), redirect_stdout(sys.stderr):
            yield
    finally:
        sys.stdout.write(options.answer)


@contextmanager
def _descriptor_apart() -> Iterator[None]:
    """Lead what libraries and children write to descriptor 1 to standard error, where that is this process's output."""
    sys.stdout.flush()
    try:
        owned = sys.stdout.fileno() == 1
    except io.UnsupportedOperation:  # a stream in memory
        owned = False
    if not owned:
        yield
        return
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def write_answer(options: argparse.Namespace, make: Callable[[], Answer]) -> None:
    """Write the answer of a command where ``--json`` asks for one."""
    if options.json is None:
        return
    from olivine.search.answers.shape import to_json

    text = to_json(make())
    if str(options.json) in STANDARD_OUTPUT:
        options.answer = text
    else:
        write_target(options.json, text)
