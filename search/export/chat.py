"""``olivine chat``: talk to a model folder, by plain ONNX Runtime GenAI as any user would run it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from olivine.evaluators.process.servers.provider import ProviderUnavailable, prove_provider
from olivine.passes.adapters.adapter_file import named_adapter
from olivine.passes.errors import OlivineError, UsageError
from olivine.passes.sources.chat_template import ChatTemplate, read_template
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.search.report.say import say

#: Name of the adapter that is active, if one is.
_ACTIVE = "active"


@dataclass
class Answer:
    """One answer as it was generated.

    Attributes:
        prompt_tokens: tokens of the prompt, template and earlier turns included.
        tokens: tokens generated.
        ttft_s: seconds to the first of them.
        decode_s: seconds for the others.
        text: the answer.
    """

    prompt_tokens: int = 0
    tokens: int = 0
    ttft_s: float = 0.0
    decode_s: float = 0.0
    text: str = ""

    def summary(self) -> str:
        """Tokens and rates, such as ``12 tokens: prompt of 30 tokens in 0.05 s, then 104.2 tok/s``."""
        rate = f", then {(self.tokens - 1) / self.decode_s:.1f} tok/s" if self.tokens > 1 and self.decode_s > 0 else ""
        return f"{self.tokens} tokens: prompt of {self.prompt_tokens} tokens in {self.ttft_s:.2f} s{rate}"


@dataclass
class Conversation:
    """A loaded model and the turns so far.

    Attributes:
        model: the onnxruntime_genai model.
        tokenizer: its tokenizer.
        template: the folder's chat template; None where it has none.
        longest: tokens of prompt and answer together, by the folder's ``search.max_length`` and what the model takes.
        adapters: onnxruntime_genai's adapters, with the one that is active; None where none is.
        messages: the turns so far; without a template only the last one is given to the model.
    """

    model: Any
    tokenizer: Any
    template: ChatTemplate | None
    longest: int
    adapters: Any = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def ask(self, words: str, max_new_tokens: int, answer: Answer) -> Iterator[str]:
        """Stream the answer to ``words``, piece by piece, with the folder's own search options.

        Args:
            words: of the person.
            max_new_tokens: most tokens generated; fewer where the model's context ends.
            answer: filled in on the way.

        Raises:
            UsageError: when the prompt alone fills the model's context.
        """
        import onnxruntime_genai as genai

        self.messages.append({"role": "user", "content": words})
        tokens = self.tokenizer.encode(self._prompt(words))
        while self.template is not None and len(tokens) >= self.longest and len(self.messages) > 1:
            del self.messages[:2]  # the oldest question and its answer make room
            tokens = self.tokenizer.encode(self._prompt(words))
        if len(tokens) >= self.longest:
            raise UsageError(
                f"The prompt has {len(tokens)} tokens; the model takes {self.longest} with its answer "
                "(search.max_length of its genai_config.json)."
            )
        params = genai.GeneratorParams(self.model)
        params.set_search_options(max_length=min(len(tokens) + max_new_tokens, self.longest))
        generator = genai.Generator(self.model, params)
        if self.adapters is not None:
            generator.set_active_adapter(self.adapters, _ACTIVE)
        stream = self.tokenizer.create_stream()
        answer.prompt_tokens = len(tokens)
        start = time.perf_counter()
        generator.append_tokens(tokens)
        while not generator.is_done():
            generator.generate_next_token()
            now = time.perf_counter()
            answer.tokens += 1
            if answer.tokens == 1:
                answer.ttft_s = now - start
            answer.decode_s = now - start - answer.ttft_s
            piece = str(stream.decode(generator.get_next_tokens()[0]))
            answer.text += piece
            yield piece
        self.messages.append({"role": "assistant", "content": answer.text})

    def _prompt(self, words: str) -> str:
        return words if self.template is None else self.template.render(self.messages)


def chat(folder: Path, prompt: str | None, max_new_tokens: int, console: Console, adapter: str | None = None) -> None:
    """Answer one prompt, or, without one, every line a person types until the input ends.

    Args:
        folder: ONNX Runtime GenAI folder.
        prompt: to answer; None for a conversation.
        max_new_tokens: most tokens of an answer.
        console: for questions and answers.
        adapter: name of the folder's adapter that answers; None for the model alone.

    Raises:
        UsageError: when the folder holds no model or no such adapter, or the prompt is empty or too long.
        OlivineError: when the model does not load, or its execution provider does not run here.
    """
    if max_new_tokens < 1:
        raise UsageError(f"An answer of {max_new_tokens} tokens is none; ask for at least 1.")
    if prompt is not None and not prompt.strip():
        raise UsageError("The prompt is empty; leave --prompt out for a conversation.")
    conversation = load(folder, adapter)
    if prompt is not None:
        _answer(conversation, prompt, max_new_tokens, console)
        return
    console.print("A conversation; an empty line or Ctrl-D ends it.", style="dim")
    if conversation.template is None:
        console.print("The folder has no chat template: the model continues each line by itself.", style="yellow")
    while words := _question(console):
        _answer(conversation, words, max_new_tokens, console)


def load(folder: Path, adapter: str | None = None) -> Conversation:
    """Load the model in ``folder`` on the provider that it asks for, and one of its adapters where one is named.

    Raises:
        UsageError: when the folder holds no model, or no such adapter.
        OlivineError: when it does not load, or the provider does not run here.
    """
    config = read_genai_config(folder)
    file = None if adapter is None else named_adapter(folder, adapter)
    import onnxruntime_genai as genai

    try:
        prove_provider(folder, config)
        model = genai.Model(str(folder))
        tokenizer = genai.Tokenizer(model)
        adapters = None
        if file is not None:
            adapters = genai.Adapters(model)
            adapters.load(str(file), _ACTIVE)
    except ProviderUnavailable as error:
        raise OlivineError(str(error)) from error
    except RuntimeError as error:  # what onnxruntime_genai raises, whatever the cause
        raise OlivineError(f"The model in {folder} does not load: {error}") from error
    longest = int(config["model"].get("context_length", 2048))
    longest = min(longest, int(config.get("search", {}).get("max_length", longest)))
    return Conversation(model, tokenizer, read_template(folder), longest, adapters)


def _question(console: Console) -> str:
    try:
        return console.input("[bold]> [/bold]").strip()
    except EOFError:
        console.print()
        return ""


def _answer(conversation: Conversation, words: str, max_new_tokens: int, console: Console) -> None:
    answer = Answer()
    for piece in conversation.ask(words, max_new_tokens, answer):
        console.out(piece, end="", highlight=False)
        console.file.flush()
    console.print()
    say(console, answer.summary(), style="dim")
