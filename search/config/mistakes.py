"""Mistakes in a study's YAML as (place, message) pairs, and the one message that lists all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Dotted path of the key, and what is wrong there.
Mistake = tuple[str, str]
#: A list of valid words longer than this many characters is not repeated in one message.
LONG_LIST = 80


def report(mistakes: Sequence[Mistake], raw: Mapping[Any, Any], where: str) -> str:
    """All mistakes as one message, in the order of the YAML; a long list of words is given once."""
    order = {str(key): index for index, key in enumerate(raw)}
    lines, listed = [], set()
    for place, message in sorted(dict.fromkeys(mistakes), key=lambda m: order.get(m[0].split(".")[0], -1)):
        hint, available, words = message.partition("Available: ")
        if len(words) > LONG_LIST and words in listed:
            message = hint.rstrip() if "Did you mean" in hint else f"{hint}{available}as above."
        listed.add(words)
        lines.append(f"  {place}: {message}")
    count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
    return "\n".join([f"{where}: {count}", *lines])
