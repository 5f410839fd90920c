"""Standard output and error as a command writes to them, whatever terminal, pipe or file is behind them."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from olivine.passes.store.atomic_files import STANDARD_OUTPUT

if TYPE_CHECKING:
    from rich.console import Console
    from typing_extensions import Buffer

#: Columns of a table in a log or pipe, which has no width of its own.
LOG_COLUMNS = 160
_SUBSTITUTE = "olivine.substitute"
#: Signs of tables and sentences in ASCII.
_SIGNS = {"±": "+-", "²": "^2", "≥": ">=", "≤": "<=", "∞": "inf", "→": "->", "←": "<-", "×": "x", "…": "...", "·": "."}
#: Errors of a pipe whose reader has gone, and of a terminal that has.
_NOBODY_READS = (errno.EPIPE, errno.EIO)


def output(target: Path | None = None) -> Console:
    """The console for tables and sentences.

    It is as wide as the terminal or ``COLUMNS`` says, and :data:`LOG_COLUMNS` wide elsewhere.

    Args:
        target: FILE of ``--json`` and the like. Where that is standard output, the console is standard error.
    """
    from rich.console import Console

    stderr = target is not None and str(target) in STANDARD_OUTPUT
    has_width = (sys.stderr if stderr else sys.stdout).isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, highlight=False, width=None if has_width else LOG_COLUMNS)


def errors() -> Console:
    """Standard error; the terminal breaks its lines."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def write(text: str) -> None:
    """Write text for other programs to standard output: nothing is wrapped or coloured."""
    sys.stdout.write(text)


def prepare_streams() -> None:
    """Make standard input, output and error of this process usable, in whatever state they were handed over.

    * A closed one is opened on /dev/null; otherwise the next file that is opened would take its number, and what a
      library prints would land in it.
    * Characters that the encoding lacks are replaced.
    * When nobody reads any more, the command goes on, and what it prints is dropped: a study costs hours.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - of this process, to its end
    codecs.register_error(_SUBSTITUTE, _substitute)
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):
            setattr(sys, name, _shielded(stream, number))


def _shielded(stream: io.TextIOWrapper | None, number: int) -> io.TextIOWrapper:
    if stream is not None:
        stream.flush()
    encoding = "utf-8" if stream is None else stream.encoding
    raw = _Output(number, "w", closefd=False)
    lines = number == 2 or raw.isatty()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors=_SUBSTITUTE, line_buffering=lines)


class _Output(io.FileIO):
    """A descriptor that takes whatever is written once nobody reads it any more."""

    def write(self, data: Buffer, /) -> int:
        """Write; after an error, a full disk among them, all that comes is dropped.

        Raises:
            OSError: for any error but that nobody reads.
        """
        try:
            return super().write(data)
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            if error.errno not in _NOBODY_READS:
                raise
        return super().write(data)


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """Stand-ins for characters that an encoding lacks: a sign's words, a letter without its accent, or ``?``."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    return "".join(_SIGNS.get(c) or _ascii(c) or "?" for c in characters), error.end


def _ascii(character: str) -> str:
    return unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
