"""Windows: pieces of a text that a model scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from olivine.passes.errors import UsageError


@dataclass(frozen=True)
class Window:
    """One piece of text.

    Attributes:
        tokens: token ids, context and BOS included.
        scored: number of last tokens that count.
        text_bytes: UTF-8 bytes of the scored tokens.
    """

    tokens: tuple[int, ...]
    scored: int
    text_bytes: int


@dataclass(frozen=True)
class TextProtocol:
    """Rules by which documents become windows; stamped into every result.

    Attributes:
        window_tokens: tokens a window holds, BOS included.
        stride: tokens from one window's start to the next; less than a window makes the rest context.
        bos: place of the BOS token, where the tokenizer adds one: at the start of every window, once at the start of
            the text, or nowhere.
        joiner: put between documents.
        keep_rest: whether a last, shorter window counts.
    """

    window_tokens: int = 512
    stride: int = 512
    bos: Literal["window", "text", "none"] = "window"
    joiner: str = "\n\n"
    keep_rest: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


#: Protocols that published numbers use, by name. Both join the rows of WikiText-2 (raw) test with blank
#: lines.
PROTOCOLS = {
    # https://huggingface.co/docs/transformers/perplexity: GPT-2's 1024 tokens of context, stride 512.
    "wikitext2-hf": TextProtocol(window_tokens=1024, stride=512, bos="text", keep_rest=True),
    # GPTQ, arXiv 2210.17323 (datautils.py and opt.py of its repository): 2048 tokens, no overlap, no rest.
    "wikitext2-gptq": TextProtocol(window_tokens=2048, stride=2048, bos="text"),
}


@dataclass(frozen=True)
class TokenizedText:
    """A text in the tokens of a model.

    Attributes:
        text: the text itself.
        ids: token ids, none of them special.
        spans: [tokens] character range of each token in ``text``.
        bos: tokens that the tokenizer puts before a text by itself; mostly none or one.
    """

    text: str
    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    bos: tuple[int, ...]


def cut(text: TokenizedText, protocol: TextProtocol) -> list[Window]:
    """Cut a text into windows, in the order of the text; each token is scored once at most.

    The first token of a window has no context unless BOS or an overlap stands before it, and is then not
    scored.
    """
    ids, spans = list(text.ids), list(text.spans)
    if protocol.bos == "text":
        ids, spans = [*text.bos, *ids], [*((0, 0) for _ in text.bos), *spans]
    prefix = text.bos if protocol.bos == "window" else ()
    room = protocol.window_tokens - len(prefix)
    windows: list[Window] = []
    done = 0
    for begin in range(0, len(ids), protocol.stride):
        end = min(begin + room, len(ids))
        if end - begin < room and not protocol.keep_rest:
            break
        tokens = (*prefix, *ids[begin:end])
        scored = min(end - done, len(tokens) - 1)
        if scored > 0:
            piece = text.text[spans[end - scored][0] : spans[end - 1][1]]
            windows.append(Window(tokens, scored, len(piece.encode())))
        done = end
        if end == len(ids):
            break
    return windows


def draw(
    text: TokenizedText, protocol: TextProtocol, count: int | None = None, seed: int = 0, name: str = "text"
) -> tuple[Window, ...]:
    """Draw ``count`` windows of a text (all of them for None), in a random order that the seed fixes.

    The order matters: an evaluation that stops early has seen a fair sample of the text.

    Raises:
        UsageError: when the text is too short; says how many tokens there are and how many are needed.
    """
    windows = cut(text, protocol)
    wanted = 2 if count is None else count
    if len(windows) < wanted:
        need = protocol.window_tokens + (wanted - 1) * protocol.stride
        raise UsageError(
            f"{name} is too short: it has {len(text.ids)} tokens, {wanted} windows of "
            f"{protocol.window_tokens} tokens at stride {protocol.stride} need {need}. Give a longer text, "
            "or ask for fewer or shorter windows."
        )
    order = np.random.default_rng(seed).permutation(len(windows))
    return tuple(windows[i] for i in order[:count])


def total_tokens(windows: Sequence[Window]) -> int:
    """Number of scored tokens."""
    return sum(window.scored for window in windows)
