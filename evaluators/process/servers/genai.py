"""Commands of decoders by ONNX Runtime GenAI."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.messages import (
    Done,
    GeneratedText,
    GeneratedTokens,
    TimedAnswer,
    Timing,
    TokenIds,
)
from olivine.evaluators.process.servers.decoder import DecoderServer
from olivine.evaluators.process.timing import timed

#: Name of the adapter that is active, if one is.
_ACTIVE = "active"
#: Tokens of the run that shows that a folder's speculation works: the same ones again and again, which are guessed.
_PROOF_TOKENS = 32


class GenaiServer(DecoderServer):
    """A language model in ONNX Runtime GenAI."""

    def __init__(self) -> None:
        import onnxruntime_genai as genai

        super().__init__()
        if hasattr(genai, "disable_telemetry_events"):
            genai.disable_telemetry_events()
        self._genai: Any = genai
        self._model: Any = None
        self._generator: Any = None
        self._adapters: Any = None
        self._speculates = False

    def open(self, folder: Path, config: dict[str, Any]) -> None:
        """Load the model of a folder; where it speculates, also show that it can.

        Guesses are right as often as a text repeats itself: of random prompts that says nothing, and a step that gives
        a token guessed before takes no time. So all that is timed and scored here runs without them.
        """
        self._model = self._genai.Model(str(folder))
        self._speculates = bool(config.get("speculative", {}).get("ngram_size", 0))
        if self._speculates:
            params = self._genai.GeneratorParams(self._model)
            params.set_search_options(max_length=_PROOF_TOKENS, do_sample=False)
            generator = self._genai.Generator(self._model, params)
            generator.append_tokens(np.zeros(_PROOF_TOKENS // 2, dtype=np.int32))
            generator.generate_next_token()

    def activate(self, adapter: str) -> None:
        """Let the adapter of a file be active in every generator from now on."""
        self._adapters = self._genai.Adapters(self._model)
        self._adapters.load(adapter, _ACTIVE)

    def prefill(self, tokens: list[int], room: int) -> Timing:
        """Time a prompt on a fresh cache with ``room`` for further tokens, to its first token."""
        ids = np.array(tokens, dtype=np.int32)
        generator = self._fresh_generator(len(ids) + room + 1)

        def first_token() -> None:
            generator.append_tokens(ids)
            self._next_token()

        return timed(first_token, 1)

    def decode(self, steps: int) -> Timing:
        """Time further tokens."""
        return timed(self._next_token, steps)

    def _next_token(self) -> None:
        """Generate a token; on a GPU, also fetch it: only then has the device done the work that is timed."""
        self._generator.generate_next_token()
        if self.on_gpu:
            self._generator.get_next_tokens()

    def tokenize(self, text: str) -> TokenIds:
        """Cut a text into token ids by GenAI's tokenizer."""
        return TokenIds(self._genai.Tokenizer(self._model).encode(text).tolist())

    def generate(self, prompt: str, max_new_tokens: int) -> GeneratedText:
        """Continue a prompt greedily."""
        tokenizer = self._genai.Tokenizer(self._model)
        ids = tokenizer.encode(prompt)
        generator = self._fresh_generator(len(ids) + max_new_tokens, min_length=0)
        generator.append_tokens(ids)
        while not generator.is_done():
            generator.generate_next_token()
        return GeneratedText(tokenizer.decode(generator.get_sequence(0)[len(ids) :]))

    def start_generation(self, tokens: list[int], room: int) -> Done:
        """Start a greedy continuation of a prompt on a fresh cache; :meth:`continue_generation` gives its tokens."""
        generator = self._fresh_generator(len(tokens) + room, min_length=0)
        generator.append_tokens(np.array(tokens, dtype=np.int32))
        return Done(True)

    def continue_generation(self, steps: int) -> GeneratedTokens:
        """Generate up to ``steps`` further tokens of the continuation."""
        before = len(self._generator.get_sequence(0))
        for _ in range(steps):
            if self._generator.is_done():
                break
            self._generator.generate_next_token()
        ids = [int(token) for token in self._generator.get_sequence(0)[before:]]
        return GeneratedTokens(ids, bool(self._generator.is_done()))

    def answer(self, tokens: list[int], most: int, ngram_size: int, max_draft_tokens: int) -> TimedAnswer:
        """Answer a prompt greedily to its end, with guesses from n-grams; 0 for none."""
        params = self._params(len(tokens) + most, min_length=0)
        if ngram_size or self._speculates:
            params.set_speculative_options(ngram_size=ngram_size, max_draft_tokens=max_draft_tokens)
        self._generator = None
        self._generator = generator = self._make_generator(params)
        generator.append_tokens(np.array(tokens, dtype=np.int32))
        started = time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
        ms = (time.perf_counter() - started) * 1e3
        ids = [int(token) for token in generator.get_sequence(0)[len(tokens) :]]
        counted = generator.get_speculative_stats()
        return TimedAnswer(ids, ms, counted["draft_tokens_proposed"], counted["draft_tokens_accepted"])

    def prompt_logits(self, ids: Any) -> Any:
        """[tokens, vocabulary] logits of a prompt on a fresh cache."""
        # No room for more: a prompt may be as long as the context. In one piece: only the last one's logits are kept.
        generator = self._fresh_generator(len(ids), chunk_size=0)
        generator.append_tokens(ids)
        self._generator = None  # the logits are all that is wanted of it
        return np.asarray(generator.get_output("logits"))[0]

    def _fresh_generator(self, max_length: int, min_length: int | None = None, **options: int) -> Any:
        """Make a greedy generator; by default it may not end before ``max_length``.

        Args:
            max_length: tokens of prompt and continuation.
            min_length: likewise, before which it may not end.
            options: of the search, in place of those of genai_config.json.
        """
        self._generator = None  # the last cache goes before the next one comes
        params = self._params(max_length, max_length if min_length is None else min_length, **options)
        if self._speculates:
            params.set_speculative_options(ngram_size=0)
        self._generator = self._make_generator(params)
        return self._generator

    def _make_generator(self, params: Any) -> Any:
        generator = self._genai.Generator(self._model, params)
        if self._adapters is not None:
            generator.set_active_adapter(self._adapters, _ACTIVE)
        return generator

    def _params(self, max_length: int, min_length: int, **options: int) -> Any:
        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(max_length=max_length, min_length=min_length, do_sample=False, **options)
        return params
