"""Stop words: texts that end an answer and are no part of it, also where they arrive in pieces."""

from __future__ import annotations


class StopWords:
    """Passes an answer's text on up to the first stop word.

    Text that may be the beginning of a stop word is held back until the next piece tells.

    Attributes:
        found: a stop word has come; nothing is passed on after it.
    """

    def __init__(self, words: tuple[str, ...]) -> None:
        self._words = words
        self._held = ""
        self.found = False

    def feed(self, piece: str) -> str:
        """Take the next piece, and return the text that is surely part of the answer."""
        if self.found:
            return ""
        text = self._held + piece
        starts = [start for word in self._words if (start := text.find(word)) >= 0]
        if starts:
            self.found, self._held = True, ""
            return text[: min(starts)]
        held = max((_overlap(text, word) for word in self._words), default=0)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def rest(self) -> str:
        """Return what was held back, once no further piece comes."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, word: str) -> int:
    """Length of the longest end of ``text`` that a stop word begins with."""
    longest = min(len(text), len(word) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(word[:size])), 0)
