"""The chat template of a model folder, rendered by Jinja as transformers renders it.

ONNX Runtime GenAI's own engine knows a part of the language: templates of SmolLM3 and Qwen3, which call ``replace`` and
``rstrip``, fail in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from olivine.search.export.serving.errors import Refused

_FILE, _CONFIG = "chat_template.jinja", "tokenizer_config.json"


class _Generation(Extension):
    """``{% generation %}``, which marks answers for those who train on them, and changes nothing."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A template and the special tokens that it may name; rendered in a sandbox, since it came with the model."""

    def __init__(self, text: str, tokens: Mapping[str, str]) -> None:
        """Compile a template.

        Raises:
            jinja2.TemplateError: when it is none.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        self._template = environment.from_string(text)
        self._tokens = tokens

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The text that the model was trained to answer.

        Raises:
            Refused: when the template does not take the messages.
        """
        try:
            return self._template.render(
                messages=messages, tools=None, documents=None, add_generation_prompt=True, **self._tokens
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise Refused(400, f"the chat template does not take these messages: {error}", "messages") from None


def read_template(folder: Path) -> ChatTemplate | None:
    """The template of a model folder; None where it has none.

    Raises:
        jinja2.TemplateError: when it is no template.
    """
    path = folder / _CONFIG
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    tokens = {name: _text(value) for name, value in config.items() if name.endswith("_token") and value}
    if (folder / _FILE).is_file():
        return ChatTemplate((folder / _FILE).read_text(encoding="utf-8"), tokens)
    template = config.get("chat_template")
    if isinstance(template, list):  # several of them by name
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default", next(iter(named.values()), None))
    return ChatTemplate(template, tokens) if template else None


def _text(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """JSON as it is: Jinja's own filter escapes what HTML would take for its own."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)
