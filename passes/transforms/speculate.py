"""N-gram speculation, written into genai_config.json: tokens are guessed from the text before, several at once.

Where the last tokens have stood in prompt or answer before, ONNX Runtime GenAI guesses that they go on as they did
then. One run of the model checks the guesses and keeps those that it would have generated itself, so answers are the
same up to rounding. A run over several tokens takes longer than over one: texts that repeat their prompt gain, others
lose.

The check needs the logits of each guess, so a pruned head excludes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

from olivine.passes.base import Axis, Choice, ConfigPass
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.transforms.prune_head import PruneHead

#: Lengths that ONNX Runtime GenAI takes.
NGRAM_SIZES, DRAFT_TOKENS = (2, 16), (1, 16)
USUAL_DRAFT_TOKENS = 4
#: Section of genai_config.json.
SECTION = "speculative"


def _possible(choice: Choice) -> bool:
    return choice.get("provider") == "cpu" and not choice.get(PruneHead.name, False)


@dataclass(frozen=True)
class Speculate(ConfigPass):
    """Guess tokens from n-grams.

    Attributes:
        ngram_size: tokens of an n-gram.
        max_draft_tokens: most tokens that are guessed at once.
    """

    ngram_size: int
    max_draft_tokens: int = USUAL_DRAFT_TOKENS

    name: ClassVar[str] = "speculate"
    requires: ClassVar[frozenset[str]] = frozenset({"onnx"})
    libraries: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[tuple[Axis, ...]] = (
        Axis(
            "ngram_size",
            "choice",
            0,
            "guess tokens from n-grams of the text before, of so many tokens; 0 does not. A study needs real prompts",
            (0, *range(NGRAM_SIZES[0], NGRAM_SIZES[1] + 1)),
            applies=_possible,
            later=True,
        ),
        Axis(
            "max_draft_tokens",
            "int",
            USUAL_DRAFT_TOKENS,
            "most tokens that are guessed at once",
            bounds=DRAFT_TOKENS,
            applies=lambda choice: bool(choice.get("ngram_size", 0)),
            later=True,
        ),
    )

    def __post_init__(self) -> None:
        """Check what a request file may bring."""
        for name, value, (low, high) in (
            ("ngram_size", self.ngram_size, NGRAM_SIZES),
            ("max_draft_tokens", self.max_draft_tokens, DRAFT_TOKENS),
        ):
            if not low <= value <= high:
                raise UsageError(f"{self.name}: {name} is {value}; it takes {low} to {high}")

    @classmethod
    def from_choice(cls, choice: Choice) -> Speculate | None:
        """The pass where a size is given."""
        size = int(choice.get("ngram_size", 0))
        return cls(size, int(choice.get("max_draft_tokens", USUAL_DRAFT_TOKENS))) if size else None

    def edited(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config with speculation.

        Raises:
            PassRefused: when ONNX Runtime GenAI can't take a guess back in such a model.
        """
        if "sliding_window" in config.get("model", {}).get("decoder", {}):
            raise PassRefused(f"{self.name}: the model keeps a window of tokens, from which no guess can be taken back")
        changed: dict[str, Any] = deepcopy(dict(config))
        changed[SECTION] = {"ngram_size": self.ngram_size, "max_draft_tokens": self.max_draft_tokens}
        return changed
