"""Sentences for a person, as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def say(console: Console, sentence: str, style: str = "") -> None:
    """Print a sentence; the terminal breaks its lines, so that a path stays whole, and ``:x:`` in it is no emoji."""
    console.print(sentence, style=style or None, markup=False, emoji=False, highlight=False, soft_wrap=True)
