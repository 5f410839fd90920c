"""Growing cache, written into genai_config.json: a key-value cache that takes memory as the text grows.

By default ONNX Runtime GenAI makes the cache once, as long as ``max_length``, and attention writes into it. With
``search.past_present_share_buffer`` false each step gets a cache that is a token longer, and copies the last one into
it: the memory is twice that of the tokens so far instead of once that of the context, for the time of a copy a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass


@dataclass(frozen=True)
class GrowingCache(ConfigPass):
    """Let the cache grow with the text instead of making room for the whole context."""

    name: ClassVar[str] = "growing_cache"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "share_buffer",
            "choice",
            True,
            "make the key-value cache once, for the whole context; false lets it grow with the text, which takes less "
            "memory where texts are shorter than the context, and copies the cache at every token",
            (True, False),
            applies=lambda choice: choice.get("provider") == "cpu",
            later=True,
        ),
    )

    @classmethod
    def from_choice(cls, choice: Choice) -> GrowingCache | None:
        """The pass where the buffer is not shared."""
        return None if choice.get("share_buffer", True) else cls()

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config whose cache grows."""
        changed: dict[str, Any] = deepcopy(dict(config))
        changed.setdefault("search", {})["past_present_share_buffer"] = False
        return changed
