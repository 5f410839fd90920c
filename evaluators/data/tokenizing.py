"""Tokenizers of model folders: the tokens of a text, and the text of chat messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeGuard

import jinja2

from olivine.evaluators.data.windows import TokenizedText
from olivine.passes.errors import UsageError

#: Stand for the words of a user where only what is put around them is wanted.
_WORDS = "olivine"
#: Author of a message in ShareGPT's words -> the role that templates know.
_ROLES = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant"}


def tokenize(text: str, folder: Path) -> TokenizedText:
    """Tokenize ``text`` by the tokenizer in a model folder.

    Raises:
        UsageError: when the folder has no tokenizer that can be read.
    """
    tokenizer = _backend(folder)
    encoding = tokenizer.encode(text, add_special_tokens=False)
    with_special = tokenizer.encode("a", add_special_tokens=True)
    plain = len(tokenizer.encode("a", add_special_tokens=False).ids)
    mask = with_special.special_tokens_mask
    before = next((i for i, special in enumerate(mask) if not special), len(mask) - plain)
    return TokenizedText(text, tuple(encoding.ids), tuple(encoding.offsets), tuple(with_special.ids[:before]))


def _backend(folder: Path) -> Any:
    if (folder / "tokenizer.json").is_file():
        return read_tokenizer(folder / "tokenizer.json")
    slow = load_tokenizer(folder)
    if not hasattr(slow, "backend_tokenizer"):
        raise UsageError(f"'{folder}' has a tokenizer without character offsets; save it as tokenizer.json")
    return _whole(slow.backend_tokenizer)


def read_tokenizer(path: Path) -> Any:
    """Read a tokenizer.json; the tokenizer sees whole texts, and nothing else, whatever training has left in the file.

    Raises:
        UsageError: when it can't be read.
    """
    from tokenizers import Tokenizer

    try:
        return _whole(Tokenizer.from_file(str(path)))
    except Exception as error:  # the library raises nothing more specific
        raise UsageError(f"{path} can't be read: {error}") from error


def _whole(tokenizer: Any) -> Any:
    """The same tokenizer, neither cutting nor padding."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def load_tokenizer(folder: Path) -> Any:
    """Load the folder's tokenizer as transformers does; no code of the folder runs.

    Raises:
        UsageError: when it can't be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"'{folder}' has no tokenizer that can be read: {error}") from error


#: Puts chat messages into text.
ChatRenderer = Callable[[Sequence[Mapping[str, Any]]], str]


def is_chat(value: object) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """True for a list of chat messages: ``role`` and ``content`` each, or ShareGPT's ``from`` and ``value``."""
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_message, value))


def _is_message(value: object) -> bool:
    return isinstance(value, Mapping) and ({"role", "content"} <= value.keys() or {"from", "value"} <= value.keys())


@dataclass(frozen=True)
class ChatTemplate:
    """Puts chat messages into text by the chat template of a model.

    Attributes:
        folder: of the model; its tokenizer is loaded when the first messages come.
    """

    folder: Path

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self.folder)

    def user_turn(self) -> tuple[str, str] | None:
        """The text before the words of a user, and the text between them and the answer.

        None where the model has no chat template, or one that does not show the words once, as they are.
        """
        if not self._tokenizer.chat_template:
            return None
        try:
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": _WORDS}], tokenize=False, add_generation_prompt=True
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError):
            return None  # it takes no such conversation
        before, words, after = str(text).partition(_WORDS)
        return (before, after) if words and _WORDS not in after else None

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Put a conversation into the text that the model was trained to read.

        Raises:
            UsageError: when the model has no chat template, or its template refuses the messages.
        """
        if not self._tokenizer.chat_template:
            raise UsageError(f"'{self.folder}' has no chat template for chat messages. Write them out as text.")
        turns = [message if "role" in message else of_share_gpt(message) for message in messages]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False))
        except (jinja2.TemplateError, TypeError, ValueError, KeyError) as error:
            raise UsageError(f"the chat template of '{self.folder}' refuses the messages: {error}") from error


def join_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """The words of a conversation alone, for an estimate of its length."""
    return "\n".join(str(message.get("content", message.get("value"))) for message in messages)


def of_share_gpt(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in ShareGPT's words (``from``, ``value``) in those of chat templates."""
    return {"role": _ROLES.get(message["from"], message["from"]), "content": message["value"]}
