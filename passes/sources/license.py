"""The license that a model's own card states, as the hub and model folders have it; none is guessed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

CARD = "README.md"
#: Characters of a card that are read: its front matter comes first.
_READ = 65_536
_FRONT = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+_-]{0,59}")


def license_of_tags(tags: Iterable[str]) -> str:
    """The license among a hub model's tags, such as ``license:apache-2.0``; empty where there is none."""
    return next((_word(tag.removeprefix("license:")) for tag in tags if tag.startswith("license:")), "")


def license_of_folder(folder: Path) -> str:
    """The license in the front matter of the folder's README.md; empty where none is stated.

    ``license: other`` stands for the ``license_name`` beside it.
    """
    path = folder / CARD
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as stream:
        front_matter = _FRONT.match(stream.read(_READ))
    lines = front_matter.group(1).splitlines() if front_matter else []
    stated = {
        name.strip(): _word(value.strip().strip("'\""))
        for name, colon, value in (line.partition(":") for line in lines)
        if colon and name.strip() in ("license", "license_name")
    }
    word = stated.get("license", "")
    return stated.get("license_name") or word if word == "other" else word


def _word(text: str) -> str:
    """The text where it is a plain word: a card may come from a stranger."""
    return text if _WORD.fullmatch(text) else ""
