"""The answers about model folders: made, checked, timed and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field, RootModel

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.quality.other_runtime import OtherRuntime
from olivine.evaluators.scenario.guesses import Gain
from olivine.passes.parity.agreement import Agreement
from olivine.search.answers.shape import Measured, Shape
from olivine.search.export.graph_folder import VerifiedGraph
from olivine.search.export.verify import Verified


class FolderResults(RootModel[dict[str, dict[str, Measured]]]):
    """Folder -> metric -> its number; speedups and ratios are against the reference."""


def results_answer(results: Mapping[str, Sequence[Measurement]]) -> FolderResults:
    """The results of ``olivine bench`` or ``olivine eval``."""
    return FolderResults(
        {name: {each.metric: Measured.of(each) for each in measurements} for name, measurements in results.items()}
    )


class GuessGain(Shape):
    """The gain of one way to guess tokens."""

    ngram_size: int
    max_draft_tokens: int
    speedup: Measured
    tokens_per_step: Measured
    accepted_share: float = Field(description="of the answers' tokens")
    right_share: float = Field(description="of the guesses")
    same_answers: int
    prompts: int = Field(description="with answers long enough to be timed")
    answered: int = Field(description="prompts in all")


class GuessGains(RootModel[list[GuessGain]]):
    """Every way that was tried."""


def guesses_answer(gains: Sequence[Gain]) -> GuessGains:
    """The results of ``olivine bench --speculation``."""
    return GuessGains(
        [
            GuessGain(
                ngram_size=gain.guessing.ngram_size,
                max_draft_tokens=gain.guessing.max_draft_tokens,
                speedup=Measured.interval(gain.speedup, "ratio"),
                tokens_per_step=Measured.interval(gain.tokens_per_step, "1"),
                accepted_share=gain.accepted,
                right_share=gain.right,
                same_answers=gain.same,
                prompts=gain.prompts,
                answered=gain.answered,
            )
            for gain in gains
        ]
    )


class MadeFolder(Shape):
    """A model folder, or a package, that was made."""

    path: str
    trial: int | None = Field(description="of the study; null where it comes from none")
    notes: list[str]


class Agreeing(Shape):
    """Logits of a folder beside those of something else on the same text."""

    beside: str
    tokens: int
    largest_difference: float = Field(description="of a logit")
    kl_divergence: float = Field(description="nats a token")
    top1_agreement: float = Field(description="share of the positions")
    notes: list[str]

    @classmethod
    def of(cls, beside: str, agreement: Agreement) -> Agreeing:
        """An agreement with what is named."""
        return cls(
            beside=beside,
            tokens=agreement.tokens,
            largest_difference=agreement.largest_difference,
            kl_divergence=agreement.kl_divergence,
            top1_agreement=agreement.top1_agreement,
            notes=[*agreement.not_covered, *agreement.words],
        )


class Verification(Shape):
    """A folder that is what was exported, loads in a fresh process, and gives what it gave."""

    folder: str
    files: int = Field(description="with the SHA-256 of the manifest")
    nats_per_token: float | None = Field(description="of the check text; null for a graph that is no language model")
    nats_per_token_at_export: float | None
    adapters: dict[str, float] = Field(description="adapter -> nats per token with it active")
    cosine_distance: float | None = Field(description="of a graph's output from that at the export")
    against: Agreeing | None = Field(description="the checkpoint of --against")
    runtimes: list[Agreeing] = Field(description="the other ways to run it of --python")


def verification_answer(
    folder: Path,
    verified: Verified | VerifiedGraph,
    against: tuple[str, Agreement] | None,
    runtimes: Sequence[OtherRuntime],
) -> Verification:
    """A folder that was verified, and maybe compared."""
    language = verified if isinstance(verified, Verified) else None
    return Verification(
        folder=str(folder),
        files=verified.files,
        nats_per_token=None if language is None else language.nll,
        nats_per_token_at_export=None if language is None else language.expected_nll,
        adapters={} if language is None else dict(language.adapters),
        cosine_distance=verified.distance if isinstance(verified, VerifiedGraph) else None,
        against=None if against is None else Agreeing.of(*against),
        runtimes=[Agreeing.of(other.name, other.agreement) for other in runtimes],
    )
