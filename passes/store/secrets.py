"""Secrets stay out of messages, logs and records: passwords in URLs, tokens, secrets of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

MASK = "***"
#: ``postgresql://user:password@host``, also where the password holds an ``@``.
_URL_PASSWORD = re.compile(r"(?P<before>[A-Za-z][\w+.-]*://[^\s:/@]*:)[^\s/]+(?P<after>@)")
#: Tokens of the Hugging Face hub.
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{8,}")
_SECRET_NAME = re.compile(r"TOKEN(?!IZER)|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL|ACCESS_KEY", re.IGNORECASE)
#: Shorter values would mask ordinary words.
_LEAST = 6


def masked(text: str) -> str:
    """``text`` without the passwords, tokens and secrets of this process's environment that are in it."""
    text = _TOKEN.sub(MASK, _URL_PASSWORD.sub(rf"\g<before>{MASK}\g<after>", text))
    for value in sorted(_secrets(os.environ).values(), key=len, reverse=True):
        text = text.replace(value, MASK)
    return text


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that runs a model: it fetches nothing, so it needs no token."""
    return {name: value for name, value in environment.items() if name not in _secrets(environment)}


def _secrets(environment: Mapping[str, str]) -> dict[str, str]:
    return {n: v for n, v in environment.items() if _SECRET_NAME.search(n) and len(v) >= _LEAST and not v.isdigit()}
