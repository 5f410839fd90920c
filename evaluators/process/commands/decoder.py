"""Commands for a language model, answered by servers/decoder.py and its runtimes, servers/genai.py and session.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.messages import (
    Done,
    GeneratedText,
    GeneratedTokens,
    Loglikelihoods,
    TimedAnswer,
    Timing,
    TokenIds,
    WindowScore,
)
from olivine.passes.store.atomic_files import staged


class DecoderCommands:
    """The commands for a language model: timing, text and quality."""

    _connection: Connection

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        """Run a prompt to its first new token, on a fresh cache; one time.

        Args:
            tokens: token ids of the prompt.
            room: new tokens that the cache holds beyond the prompt.
        """
        return self._connection.request_times("prefill", 1, tokens=_integers(tokens), room=room)

    def decode(self, steps: int) -> Timing:
        """Generate ``steps`` more tokens after :meth:`prefill` or the last decode; one time each."""
        return self._connection.request_times("decode", steps, steps=steps)

    def tokenize(self, text: str) -> list[int]:
        """Token ids as the model's own GenAI tokenizer gives them."""
        return self._connection.request(TokenIds, "tokenize", text=text).ids

    def generate(self, prompt: str, max_new_tokens: int) -> str:
        """Continue ``prompt`` greedily."""
        return self._connection.request(GeneratedText, "generate", prompt=prompt, max_new_tokens=max_new_tokens).text

    def generate_until(
        self, tokens: Sequence[int], max_new_tokens: int, until: Callable[[list[int]], bool], steps: int = 16
    ) -> list[int]:
        """Continue a prompt greedily, in token ids; an end token may be the last.

        Args:
            tokens: token ids of the prompt.
            max_new_tokens: most tokens to generate.
            until: called every ``steps`` tokens with all that are generated; true ends it.
            steps: tokens of one request.
        """
        self._connection.request(Done, "start_generation", tokens=_integers(tokens), room=max_new_tokens)
        ids: list[int] = []
        finished = max_new_tokens < 1
        while not finished and not until(ids):
            piece = self._connection.request(GeneratedTokens, "continue_generation", steps=steps)
            ids += piece.ids
            finished = piece.finished
        return ids

    def answer(self, tokens: Sequence[int], most: int, ngram_size: int = 0, max_draft_tokens: int = 4) -> TimedAnswer:
        """Answer a prompt greedily to its end, by ONNX Runtime GenAI alone.

        Args:
            tokens: token ids of the prompt.
            most: tokens of the answer.
            ngram_size: tokens of the n-grams that guesses are made of; 0 makes none, whatever the folder says.
            max_draft_tokens: most tokens that are guessed at once.
        """
        options = {"ngram_size": ngram_size, "max_draft_tokens": max_draft_tokens}
        return self._connection.request(TimedAnswer, "answer", tokens=_integers(tokens), most=most, **options)

    def loglikelihoods(self, tokens: Sequence[int], continuations: Sequence[Sequence[int]]) -> Loglikelihoods:
        """Log-likelihoods of continuations, each of which the last positions of one prompt predict.

        Args:
            tokens: token ids of context and continuation together, without the continuation's last token.
            continuations: token ids of continuations that differ in their last token at most, but may start at
                different places.

        Raises:
            ModelProcessFailed: of kind ``error`` when a logit is not finite.
        """
        ids = [_integers(continuation) for continuation in continuations]
        scores = self._connection.request(Loglikelihoods, "loglikelihoods", tokens=_integers(tokens), continuations=ids)
        if not len(scores.nats) == len(scores.greedy) == len(ids):
            what = f"answered 'loglikelihoods' for {len(scores.nats)} of {len(ids)} continuations"
            raise self._connection.failed("error", what)
        return scores

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        """Run every window, and store its likeliest tokens for the comparison in ``path`` (.npz; whole or absent).

        Args:
            windows: token ids of each window, and how many of its last tokens are scored.
            path: the file to write.
            top_k: how many of the likeliest tokens are kept per position.

        Raises:
            ModelProcessFailed: of kind ``error`` when a logit is not finite: such a model can't be a reference.
        """
        plain = [[list(tokens), scored] for tokens, scored in windows]
        seconds = self._connection.timeout_s * max(1, len(plain))
        with staged(path) as staging:
            self._connection.request(
                Done, "reference", timeout_s=seconds, windows=plain, path=str(staging), top_k=top_k
            )

    def score(self, path: Path, window: int) -> WindowScore:
        """Score one window of a file that :meth:`reference` wrote."""
        return self._connection.request(WindowScore, "score", path=str(path), window=window)


def _integers(tokens: Sequence[int]) -> list[int]:
    """Python's own integers, which JSON can hold."""
    return [int(token) for token in tokens]
