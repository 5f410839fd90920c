"""The context that a model is deployed with, written into genai_config.json: ONNX Runtime GenAI takes memory for it.

Where past and present keys share a buffer, the first prompt allocates the whole cache of ``search.max_length`` tokens,
which the model builder sets to all that the model takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass
from olivine.passes.errors import PassRefused


@dataclass(frozen=True)
class ContextLength(ConfigPass):
    """Let a generator stop, and its cache end, at a context that the user names.

    Attributes:
        tokens: of prompt and answer together.
    """

    tokens: int

    name: ClassVar[str] = "context_length"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "context",
            "int",
            0,
            "tokens of prompt and answer that the exported folder makes room for; 0 for all that the model takes",
            bounds=(0, 1 << 24),
            base_inherits=True,
            later=True,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> ContextLength | None:
        """The pass where a context is named."""
        tokens = int(choice.get("context", 0))
        return cls(tokens) if tokens else None

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with ``search.max_length`` at this context.

        Raises:
            PassRefused: when the model takes fewer tokens.
        """
        longest = config["model"].get("context_length")
        if longest is not None and self.tokens > int(longest):
            raise PassRefused(f"context: {self.tokens} tokens; the model takes {longest}. Give at most that.")
        changed: dict[str, Any] = deepcopy(dict(config))
        changed.setdefault("search", {})["max_length"] = self.tokens
        return changed
