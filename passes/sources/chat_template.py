"""The chat template of a model folder, rendered by jinja2 as transformers renders it, methods of strings and all.

ONNX Runtime GenAI's own engine knows a part of the language: templates of SmolLM3 and Qwen3, which call ``replace`` and
``rstrip``, fail in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError

Message = Mapping[str, Any]
_FILE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"


@dataclass(frozen=True)
class ChatTemplate:
    """A template and the special tokens that it may name.

    Attributes:
        text: the template.
        tokens: name of each special token (``bos_token`` ...) -> its text.
        where: the file that it is from, for messages.
    """

    text: str
    tokens: Mapping[str, str]
    where: str

    def render(
        self, messages: Sequence[Message], *, tools: Sequence[Message] | None = None, generate: bool = True
    ) -> str:
        """The prompt of a conversation.

        Args:
            messages: turns with ``role`` and ``content``.
            tools: JSON schemas of functions that may be called.
            generate: whether the prompt ends where the answer begins.

        Raises:
            UsageError: when the template refuses the conversation, or is none.
        """
        import jinja2
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            rendered, _ = render_jinja_template(
                [list(messages)],
                tools=None if tools is None else list(tools),
                chat_template=self.text,
                add_generation_prompt=generate,
                **self.tokens,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise UsageError(f"The chat template in {self.where} can't be rendered: {error}") from error
        return str(rendered[0])


def read_template(folder: Path) -> ChatTemplate | None:
    """The template of a model folder; None where it has none."""
    config: dict[str, Any] = {}
    if (folder / _CONFIG).is_file():
        config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    tokens = {name: _text(value) for name, value in config.items() if name.endswith("_token") and value}
    if (folder / _FILE).is_file():
        return ChatTemplate((folder / _FILE).read_text(encoding="utf-8"), tokens, str(folder / _FILE))
    template = config.get("chat_template")
    if isinstance(template, list):  # several of them by name
        named = {str(entry.get("name")): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default") or next(iter(named.values()), None)
    return ChatTemplate(str(template), tokens, str(folder / _CONFIG)) if template else None


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)
