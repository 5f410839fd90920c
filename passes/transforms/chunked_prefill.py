"""Long prompts in pieces, written into genai_config.json: memory for one piece at a time instead of the whole prompt.

ONNX Runtime GenAI runs a prompt longer than ``search.chunk_size`` piece by piece on one cache. Activations and logits
are those of a piece, so a prompt's peak of memory hardly grows with its length. A prompt that is no longer than a piece
is run as ever. Tokens stay the same, up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass
from olivine.passes.errors import UsageError, did_you_mean

#: Tokens of a piece; 0 runs every prompt at once.
CHUNK_SIZES = (0, 64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class ChunkedPrefill(ConfigPass):
    """Run long prompts in pieces.

    Attributes:
        chunk_size: tokens of a piece.
    """

    chunk_size: int

    name: ClassVar[str] = "chunked_prefill"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "chunk_size",
            "choice",
            0,
            "run prompts that are longer in pieces of so many tokens, which takes less memory; 0 runs them at once",
            CHUNK_SIZES,
            applies=lambda choice: choice.get("provider") == "cpu",
            later=True,
        ),
    )

    def __post_init__(self) -> None:
        """Check what a request file may bring."""
        if self.chunk_size not in CHUNK_SIZES[1:]:
            hint = did_you_mean(self.chunk_size, CHUNK_SIZES[1:])
            raise UsageError(f"{self.name}: unknown chunk_size '{self.chunk_size}'. {hint}")

    @classmethod
    def from_choice(cls, choice: Choice) -> ChunkedPrefill | None:
        """The pass where a size is given."""
        size = int(choice.get("chunk_size", 0))
        return cls(size) if size else None

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config whose search runs prompts in pieces of this size."""
        changed: dict[str, Any] = deepcopy(dict(config))
        changed.setdefault("search", {})["chunk_size"] = self.chunk_size
        return changed
