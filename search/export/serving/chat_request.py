"""The body of ``POST /v1/chat/completions``: what this server can do of it, and a clear refusal of the rest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from olivine.search.export.serving.errors import Refused

#: System, user and assistant are what every chat template knows.
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
MAX_STOP_WORDS = 16
#: Fields that say nothing about the answer.
_IGNORED = frozenset({"metadata", "prompt_cache_key", "safety_identifier", "service_tier", "store", "user"})
#: Fields of which one value alone can be met.
_FIXED: Mapping[str, Any] = {
    "frequency_penalty": 0,
    "logit_bias": {},
    "logprobs": False,
    "modalities": ["text"],
    "n": 1,
    "presence_penalty": 0,
    "response_format": {"type": "text"},
    "tool_choice": "none",
    "tools": [],
}
_READ = frozenset(
    {
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
    }
)


@dataclass(frozen=True)
class ChatRequest:
    """A chat to go on with.

    Attributes:
        messages: each with ``role`` and ``content``.
        model: its name; None where the request names none.
        max_new_tokens: most tokens of the answer; None for the server's own limit.
        temperature: None, as the four below, for the model folder's own.
        top_p: share of the probability that is sampled from.
        seed: the same one gives the same answer to the same request.
        stop: texts that end the answer.
        stream: send the answer piece by piece.
        stream_usage: end a stream with its token counts.
    """

    messages: tuple[dict[str, str], ...]
    model: str | None = None
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    stream_usage: bool = False


def parse_request(body: bytes) -> ChatRequest:
    """Read a request's body; a field that is null counts as left out.

    Raises:
        Refused: with what is wrong and what fits.
    """
    try:
        said = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise Refused(400, f'the body is no JSON; send {{"messages": [...]}}: {error}') from None
    if not isinstance(said, dict):
        raise Refused(400, f"the body is a JSON {type(said).__name__}; an object with messages is asked for")
    said = {name: value for name, value in said.items() if value is not None}
    for name, value in said.items():
        if name in _FIXED and (value != _FIXED[name] or isinstance(value, bool) != isinstance(_FIXED[name], bool)):
            raise Refused(400, f"{name} can only be {json.dumps(_FIXED[name])} here", name, "unsupported_value")
        if name not in _READ and name not in _FIXED and name not in _IGNORED:
            raise Refused(400, f"unknown field {name[:100]!r}; known: {', '.join(sorted(_READ))}", name[:100])
    model = said.get("model")
    if model is not None and not isinstance(model, str):
        raise Refused(400, "model has to be a text", "model")
    return ChatRequest(
        messages=_messages(said.get("messages")),
        model=model,
        max_new_tokens=_max_new_tokens(said),
        temperature=_number(said, "temperature", 2.0),
        top_p=_number(said, "top_p", 1.0),
        seed=_whole(said, "seed"),
        stop=_stop(said.get("stop", [])),
        stream=_flag(said, "stream"),
        stream_usage=_stream_usage(said.get("stream_options", {})),
    )


def _messages(said: object) -> tuple[dict[str, str], ...]:
    if not isinstance(said, list) or not said:
        raise Refused(400, "messages has to be a list of at least one message", "messages")
    return tuple(_message(message, f"messages[{index}]") for index, message in enumerate(said))


def _message(said: object, where: str) -> dict[str, str]:
    if not isinstance(said, dict):
        raise Refused(400, f"{where} has to be an object with role and content", where)
    role = said.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise Refused(400, f"{where}.role is {_short(role)}; known: {', '.join(ROLES)}", f"{where}.role")
    for name, value in said.items():
        if name not in ("role", "content", "name") and value not in (None, [], ""):
            raise Refused(400, f"{where}.{name[:100]} is not supported", f"{where}.{name[:100]}")
    return {"role": ROLES[role], "content": _content(said.get("content"), f"{where}.content")}


def _content(said: object, where: str) -> str:
    """The text of a message: as it is, or in parts of type ``text``."""
    if isinstance(said, list):
        parts = [part if isinstance(part, dict) else {} for part in said]
        if other := [part.get("type") for part in parts if part.get("type") != "text"]:
            raise Refused(400, f"{where} has a part of type {_short(other[0])}; the model reads text alone", where)
        texts = [part.get("text") for part in parts]
    else:
        texts = [said]
    if not all(isinstance(text, str) for text in texts):
        raise Refused(400, f"{where} has to be a text, or a list of parts of type text", where)
    return _checked("".join(map(str, texts)), where)


def _checked(text: str, where: str) -> str:
    """A text that tokenizers take."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Refused(400, f"{where} holds half a character (a lone surrogate)", where) from None
    if "\0" in text:
        raise Refused(400, f"{where} holds a null character", where)
    return text


def _max_new_tokens(said: Mapping[str, Any]) -> int | None:
    counts = {name: _whole(said, name) for name in ("max_completion_tokens", "max_tokens") if name in said}
    for name, count in counts.items():
        if count is not None and count < 1:
            raise Refused(400, f"{name} is {count}; at least 1 is asked for", name)
    if len(set(counts.values())) > 1:
        raise Refused(400, "max_tokens and max_completion_tokens differ; give one of them", "max_tokens")
    return next(iter(counts.values()), None)


def _whole(said: Mapping[str, Any], name: str) -> int | None:
    value = said.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise Refused(400, f"{name} has to be a whole number", name)
    return value


def _number(said: Mapping[str, Any], name: str, largest: float) -> float | None:
    value = said.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= largest:
        raise Refused(400, f"{name} has to be a number from 0 to {largest:g}", name)
    return float(value)


def _flag(said: Mapping[str, Any], name: str) -> bool:
    value = said.get(name, False)
    if not isinstance(value, bool):
        raise Refused(400, f"{name} has to be true or false", name)
    return value


def _stop(said: object) -> tuple[str, ...]:
    words = [said] if isinstance(said, str) else said
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise Refused(400, "stop has to be a text or a list of texts, none of them empty", "stop")
    if len(words) > MAX_STOP_WORDS:
        raise Refused(400, f"stop has {len(words)} texts; at most {MAX_STOP_WORDS} are looked for", "stop")
    return tuple(words)


def _stream_usage(said: object) -> bool:
    if not isinstance(said, dict) or not set(said) <= {"include_usage", "include_obfuscation"}:
        raise Refused(400, 'stream_options can be {"include_usage": true}', "stream_options")
    return _flag(said, "include_usage")


def _short(value: object) -> str:
    return json.dumps(value)[:100]
