"""A loaded ONNX Runtime GenAI folder, and how it answers a chat token by token."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray

from olivine.search.export.serving.adapters import load_adapters
from olivine.search.export.serving.caches import TOKENS_STEP, Cache, Caches
from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.chat_template import read_template
from olivine.search.export.serving.errors import Refused, Unusable
from olivine.search.export.serving.stop_words import StopWords

#: Tokens of a prompt that are computed in one step; longer steps would let other answers wait, and take more memory.
PROMPT_STEP = 256
#: Chats whose keys and values stay in memory for their next turn.
KEPT_CHATS = 2
#: Providers whose generators take a prompt in pieces and can be rewound.
_GOES_ON = ("CPU", "CUDA")
_CUDA = ("cuda", "cudaexecutionprovider")
#: Seeds of GenAI are of 32 bits and not negative; OpenAI's have 64.
_SEEDS = 2**31


@dataclass(frozen=True)
class Piece:
    """Text that was generated."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The end of an answer.

    Attributes:
        reason: ``stop`` at a stop word or where the model ends, ``length`` where the answer was cut off.
        prompt_tokens: chat template included.
        cached_tokens: those of them that an earlier turn had computed.
        new_tokens: that were generated.
    """

    reason: str
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int


#: One step of an answer; None where it gave no text.
Step = Piece | Finished | None


class Model:
    """A model folder on the execution provider that it asks for. All calls have to come from one thread.

    Attributes:
        max_tokens: of a prompt and its answer.
        caches: generators that hold memory now.
        adapters: names of the folder's LoRA adapters, which requests may name as their model.
    """

    def __init__(self, folder: Path, at_once: int, max_new_tokens: int) -> None:
        """Load a folder.

        Args:
            folder: with genai_config.json.
            at_once: answers that may be under way at the same time.
            max_new_tokens: of an answer where a request does not say.

        Raises:
            Unusable: when it does not load, or its chat template can't be rendered.
        """
        import onnxruntime_genai as genai

        try:
            config = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))
            _preload(config)
            self._model = genai.Model(str(folder))
            self._tokenizer = genai.Tokenizer(self._model)
            loaded, self.adapters = load_adapters(genai, self._model, folder)
        except (OSError, ValueError, RuntimeError) as error:
            raise Unusable(f"the model in {folder} does not load: {error}") from None
        context = int(config["model"].get("context_length", 2048))
        search = config.get("search", {})
        self.max_tokens = min(context, int(search.get("max_length", context)))
        self._samples = bool(search.get("do_sample", False))
        self._max_new_tokens = max_new_tokens
        goes_on = str(self._model.device_type) in _GOES_ON
        self._step = PROMPT_STEP if goes_on else context
        self.caches = Caches(genai, self._model, loaded, at_once, min(KEPT_CHATS, at_once) if goes_on else 0)
        self._ends = {int(token) for token in self._tokenizer.eos_token_ids}
        try:
            self._template = read_template(folder)
            self._encode(({"role": "user", "content": "Hello"},))
        except (TemplateError, Refused) as error:
            raise Unusable(f"the chat template in {folder} can't be rendered: {error}") from None

    def answer(self, request: ChatRequest) -> Generator[Step, None, None]:
        """Answer a chat, a step at a time; closing the generator ends it and frees its memory.

        Raises:
            Refused: when the chat template does not take the messages, or they fill the model's context.
        """
        tokens = self._encode(request.messages)
        room = self.max_tokens - len(tokens)
        if room < 1:
            why = f"the prompt has {len(tokens)} tokens; prompt and answer may have {self.max_tokens} together"
            raise Refused(400, why, "messages", "context_length_exceeded")
        most = min(request.max_new_tokens or self._max_new_tokens, room)
        needed = min(-(-(len(tokens) + most) // TOKENS_STEP) * TOKENS_STEP, self.max_tokens)
        adapter = request.model if request.model in self.adapters else None
        cache = self.caches.take(tokens, self._options(request), needed, request.seed is not None, adapter)
        keep = False
        try:
            finished = yield from self._generate(cache, tokens, most, StopWords(request.stop))
            keep = request.seed is None  # one with a seed would be of no use to a later turn
        finally:
            self.caches.release(cache, keep)
        yield finished

    def _generate(
        self, cache: Cache, tokens: NDArray[np.int32], most: int, words: StopWords
    ) -> Generator[Step, None, Finished]:
        generator, cached = cache.generator, cache.computed
        for start in range(cached, len(tokens), self._step):
            generator.append_tokens(tokens[start : start + self._step])
            yield None
        text, count, ended = self._tokenizer.create_stream(), 0, False
        while count < most and not (ended or words.found or generator.is_done()):
            generator.generate_next_token()
            count += 1
            token = int(generator.get_next_tokens()[0])
            ended = token in self._ends
            piece = "" if ended else words.feed(str(text.decode(token)))
            yield Piece(piece) if piece else None
        if rest := words.rest():
            yield Piece(rest)
        reason = "stop" if ended or words.found else "length"
        return Finished(reason, len(tokens), cached, count)

    def _encode(self, messages: tuple[dict[str, str], ...]) -> NDArray[np.int32]:
        """Tokens of a chat by the folder's own template; of the one message where it has none."""
        if self._template is not None:
            prompt = self._template.render(messages)
        elif len(messages) == 1:
            prompt = messages[0]["content"]
        else:
            why = f"this model has no chat template: it goes on with one message, and there are {len(messages)}"
            raise Refused(400, why, "messages")
        tokens: NDArray[np.int32] = self._tokenizer.encode(prompt)
        if len(tokens) == 0:
            raise Refused(400, "the prompt is empty", "messages")
        return tokens

    def _options(self, request: ChatRequest) -> Mapping[str, Any]:
        """GenAI's search options; those that the request leaves out are the folder's own.

        Who asks a folder that does not sample for a temperature or ``top_p`` gets all tokens to sample from: its
        ``top_k`` was not chosen for that.
        """
        options: dict[str, Any] = {}
        if request.temperature is not None:
            options |= {"do_sample": request.temperature > 0, "temperature": request.temperature}
        if request.top_p is not None:
            options |= {"do_sample": request.temperature != 0, "top_p": request.top_p}
        if options.get("do_sample") and not self._samples:
            options["top_k"] = 0
        if request.seed is not None:
            options["random_seed"] = request.seed % _SEEDS
        return options


def _preload(config: Mapping[str, Any]) -> None:
    """Load CUDA's libraries where the folder asks for CUDA: they may be Python packages, where no loader looks."""
    options = config["model"].get("decoder", {}).get("session_options", {}).get("provider_options") or []
    if any(name.lower() in _CUDA for option in options for name in option):
        import onnxruntime  # only here: the CPU does not pay for the import

        onnxruntime.preload_dlls()
