"""Generators with the tokens that they have computed, so that a chat that goes on computes its new tokens alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: A generator is made for a multiple of so many tokens, so that the next turns of a chat fit too.
TOKENS_STEP = 1024


@dataclass(eq=False)
class Cache:
    """A generator with the keys and values of some tokens.

    Attributes:
        generator: ONNX Runtime GenAI's.
        options: search options that it was made with.
        max_tokens: that it has room for.
        adapter: name of the LoRA adapter that is active in it; None for none.
        computed: tokens of the new prompt that it need not compute again.
    """

    generator: Any
    options: Mapping[str, Any]
    max_tokens: int
    adapter: str | None = None
    computed: int = 0

    def common(self, tokens: NDArray[np.int32]) -> int:
        """Tokens at the beginning of a prompt that are computed already.

        One token less than there are at most: the last one generated was never computed, and a prompt needs one to go
        on with.
        """
        have = self.generator.get_sequence(0)
        size = min(len(have), len(tokens)) - 1
        unlike = np.flatnonzero(have[:size] != tokens[:size])
        return int(unlike[0]) if len(unlike) else size


class Caches:
    """Generators in use, and finished ones that are kept; together at most as many as may be in use."""

    def __init__(self, genai: Any, model: Any, adapters: Any, at_once: int, most_kept: int) -> None:
        self._genai = genai
        self._model = model
        self._adapters = adapters
        self._at_once = at_once
        self._most_kept = most_kept
        self._kept: list[Cache] = []
        self._used: list[Cache] = []

    def __len__(self) -> int:
        return len(self._kept) + len(self._used)

    def take(
        self,
        tokens: NDArray[np.int32],
        options: Mapping[str, Any],
        needed: int,
        fresh: bool,
        adapter: str | None = None,
    ) -> Cache:
        """Take a generator for a prompt: the kept one that has most of it, rewound to where they part, or a new one.

        Args:
            tokens: of the prompt.
            options: search options, ``max_length`` left out; a generator keeps those that it was made with.
            needed: tokens of the prompt and its answer.
            fresh: take a new one. Tokens that were computed one by one differ in rounding from those of a prompt.
            adapter: name of the LoRA adapter that answers; None for the model alone.
        """
        alike = [c for c in self._kept if c.options == options and c.adapter == adapter]
        fitting = [] if fresh else [c for c in alike if c.max_tokens >= needed]
        cache = self._rewound(fitting, tokens)
        if cache is None:
            while self._kept and len(self) >= self._at_once:
                del self._kept[0]
            cache = self._make(options, needed, adapter)
        self._used.append(cache)
        return cache

    def release(self, cache: Cache, keep: bool) -> None:
        """Take a generator back, and keep it for the next turn of its chat or free it."""
        self._used.remove(cache)
        if keep and self._most_kept:
            self._kept.append(cache)
            del self._kept[: -self._most_kept]

    def _rewound(self, fitting: list[Cache], tokens: NDArray[np.int32]) -> Cache | None:
        best = max(fitting, key=lambda cache: cache.common(tokens), default=None)
        # Where less than half is shared, another chat has begun, and the kept one may go on.
        if best is None or best.common(tokens) * 2 < len(best.generator.get_sequence(0)):
            return None
        self._kept.remove(best)
        best.computed = best.common(tokens)
        try:
            best.generator.rewind_to(best.computed)
        except RuntimeError as error:  # caches of windows and states of recurrent layers can't be rewound
            logging.getLogger(__name__).warning("every turn of a chat computes all of it: %s", error)
            self._most_kept = 0
            self._kept.clear()
            return None
        return best

    def _make(self, options: Mapping[str, Any], max_tokens: int, adapter: str | None) -> Cache:
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=max_tokens, **options)
        generator = self._genai.Generator(self._model, params)
        if adapter is not None:
            generator.set_active_adapter(self._adapters, adapter)
        return Cache(generator, options, max_tokens, adapter)
