"""The texts of the benchmark: windows that are scored, prompts that are timed, and what engines may learn from.

Scored are the ``confirm`` splits of two kinds of text: news, of the kind that all engines calibrate on, and an
encyclopedia, of a kind that they don't. Calibration text is the ``calibrate`` split of the news.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import train_tiny

from olivine.evaluators.data.text_source import TextSource, splits
from olivine.evaluators.data.tokenizing import tokenize
from olivine.evaluators.data.windows import TextProtocol, draw
from olivine.evaluators.peers.timing import PROMPT_TOKENS

WINDOW_TOKENS = 512
PROMPTS = 40
JOINER = "\n\n"
NEWS, ENCYCLOPEDIA = "news", "encyclopedia"
#: Windows of each kind of text that are scored.
WINDOWS = {ENCYCLOPEDIA: 8, NEWS: 4}


@dataclass(frozen=True)
class Texts:
    """Texts in the tokens of one model.

    Attributes:
        windows: kind -> windows of ``WINDOW_TOKENS`` tokens.
        prompts: of ``PROMPT_TOKENS`` tokens each, no two alike.
        calibration: what engines may learn from.
    """

    windows: dict[str, list[list[int]]]
    prompts: list[list[int]]
    calibration: list[str]


def read(folder: Path) -> Texts:
    """Read the texts, in the tokens of the model in ``folder``."""
    news = splits(TextSource.parse("demo:news").documents())
    confirm = {NEWS: news["confirm"], ENCYCLOPEDIA: splits(train_tiny.articles())["confirm"]}
    return Texts(
        {kind: _cut(folder, confirm[kind], WINDOW_TOKENS, count) for kind, count in WINDOWS.items()},
        _cut(folder, news["select"] + news["confirm"], PROMPT_TOKENS, PROMPTS),
        news["calibrate"],
    )


def _cut(folder: Path, documents: list[str], length: int, count: int) -> list[list[int]]:
    text = tokenize(JOINER.join(documents), folder)
    return [list(window.tokens) for window in draw(text, TextProtocol(length, length), count, name="the text")]
