"""Patterns that choose layers by their path, such as ``layers.3/down_proj`` and ``lm_head``."""

from __future__ import annotations

import re

from olivine.passes.errors import UsageError


def check_pattern(name: str, pattern: str) -> None:
    """Refuse what is no regular expression, on behalf of the pass ``name``.

    Raises:
        UsageError: with the place of the mistake.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{name}: the layer pattern '{pattern}' is no regular expression: {error}") from error
