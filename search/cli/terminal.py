"""Standard output and error as a command writes to them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of a table in a log or pipe, which has no width of its own.
LOG_COLUMNS = 160


def output() -> Console:
    """Standard output; as wide as the terminal or ``COLUMNS`` says, and :data:`LOG_COLUMNS` wide elsewhere."""
    from rich.console import Console

    has_width = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if has_width else LOG_COLUMNS)


def errors() -> Console:
    """Standard error; the terminal breaks its lines."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, soft_wrap=True)


def write(text: str) -> None:
    """Write text for other programs: nothing is wrapped or coloured."""
    sys.stdout.write(text)
