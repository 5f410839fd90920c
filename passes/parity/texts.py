"""The texts on which a graph is compared with its checkpoint: prose in many scripts, and tokens at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

#: Tokens at random, and of the sample, where nothing asks for more.
_RANDOM, _SAMPLE = 256, 384
#: Tokens beyond a window or an original context that show that it is kept.
_BEHIND = 64
#: The longest text, whatever asks for it.
_LONGEST = 8300
#: Multiplications that a comparison may cost: a minute of two cores.
_OPERATIONS = 2e12
#: Bytes of logits that are compared at a time, and of those of a text that has to be read at once.
_PIECE_BYTES, _WHOLE_BYTES = 100_000_000, 1_500_000_000


@dataclass(frozen=True)
class Text:
    """Tokens, and the pieces in which a graph reads them.

    Attributes:
        ids: the tokens.
        pieces: lengths that add up to theirs.
    """

    ids: tuple[int, ...]
    pieces: tuple[int, ...]


@dataclass(frozen=True)
class Scope:
    """Lengths that a comparison has to reach, and its cost.

    Attributes:
        context: the longest text of the graph.
        vocabulary: tokens of its head.
        parameters: weights of the model.
        window: the largest sliding window of a layer, or None.
        trained_on: the context before RoPE was scaled, or None.
        switches: whether RoPE changes for all positions where the text is longer than that.
        slow: how many times slower than float32 the graph runs.
    """

    context: int
    vocabulary: int
    parameters: int
    window: int | None = None
    trained_on: int | None = None
    switches: bool = False
    slow: float = 1.0


def sample() -> str:
    """A page of prose, code and signs in many scripts."""
    return files(__package__).joinpath("sample.txt").read_text(encoding="utf-8")


def texts(scope: Scope, tokenizer: Any) -> tuple[list[Text], tuple[str, ...]]:
    """The texts, and what they do not reach, as sentences."""
    affordable = int(min(scope.context, _LONGEST, _OPERATIONS / scope.parameters / scope.slow))
    affordable = max(affordable, min(_BEHIND, scope.context))
    wanted = [("the sliding window", scope.window), ("the context that RoPE was trained on", scope.trained_on)]
    reached = {
        f"{name} of {size:,} tokens": size + _BEHIND
        for name, size in wanted
        if size is not None and size < scope.context
    }
    length = min(max([_RANDOM, *reached.values()]), affordable)
    whole = scope.switches and scope.trained_on is not None and length > scope.trained_on
    if whole and 4 * length * scope.vocabulary > _WHOLE_BYTES:
        length, whole = min(scope.trained_on or length, length), False
    missed = tuple(
        f"no text was longer than {name}" for name, size in reached.items() if length < min(size, scope.context)
    )
    ordinary = _ordinary(tokenizer, scope.vocabulary)
    random = np.random.default_rng(0).choice(ordinary, size=length)
    shortest = min(affordable, _SAMPLE, scope.trained_on if scope.switches and scope.trained_on else _SAMPLE)
    prose = [token for token in tokenizer(sample()).input_ids if token < scope.vocabulary][:shortest]
    piece = max(1, _PIECE_BYTES // (4 * scope.vocabulary))
    return [
        Text(tuple(int(token) for token in random), (length,) if whole else _pieces(length, piece)),
        Text(tuple(prose), _pieces(len(prose), piece)),
    ], missed


def _ordinary(tokenizer: Any, vocabulary: int) -> np.ndarray:
    """Tokens of text: none that stands for an image, or ends one."""
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return np.array([token for token in range(min(vocabulary, len(tokenizer))) if token not in special])


def _pieces(length: int, longest: int) -> tuple[int, ...]:
    """A prompt, one token, and the rest, none longer than ``longest``."""
    first = min(length // 2, longest)
    lengths = [first, 1] if first else []
    while (left := length - sum(lengths)) > 0:
        lengths.append(min(left, longest))
    return tuple(lengths)


def load_tokenizer(checkpoint: Path, trust_remote_code: bool) -> Any:
    """The checkpoint's tokenizer, as transformers loads it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=trust_remote_code)


def total(parts: Sequence[Text]) -> int:
    """Tokens of several texts."""
    return sum(len(part.ids) for part in parts)
