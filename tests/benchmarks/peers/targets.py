"""Targets: at each loss, the size and speed that olivine's members shall have beside the best of the other engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peers.texts import ENCYCLOPEDIA

from olivine.evaluators.peers import timing
from olivine.evaluators.peers.measured import Measured
from olivine.evaluators.peers.rows import LLAMA, OLIVINE, OPENVINO
from olivine.evaluators.stats import Interval

Q8_0, Q6_K, Q5_K_M, Q4_K_M = (f"{LLAMA} {name}" for name in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"))
OPENVINO_INT8 = f"{OPENVINO} int8"


@dataclass(frozen=True)
class Target:
    """One row of the targets.

    Attributes:
        kl: most KL divergence on text of a kind that nothing learned from.
        size: most bytes, or the row that has as many.
        decode: row -> at least this many times its tokens per second.
        prefill: likewise.
    """

    kl: float
    size: float | str
    decode: Mapping[str, float]
    prefill: Mapping[str, float]


TARGETS = (
    Target(0.01, Q8_0, {Q8_0: 1.1, OPENVINO_INT8: 1.35}, {OPENVINO_INT8: 1.0}),
    Target(0.03, 150e6, {Q8_0: 1.1}, {OPENVINO_INT8: 1.1}),
    Target(0.055, Q5_K_M, {Q5_K_M: 1.25}, {Q5_K_M: 3.0}),
    Target(0.09, 115e6, {Q4_K_M: 1.4}, {Q4_K_M: 2.0}),
)


@dataclass(frozen=True)
class Check:
    """One condition of a target on one member.

    Attributes:
        what: ``bytes``, ``decode`` or ``prefill``.
        asked: in words.
        reached: over what is asked; of bytes the inverse, so that 1 or more is always enough.
        found: in words.
    """

    what: str
    asked: str
    reached: float
    found: str

    @property
    def missed(self) -> str:
        """By how much it is missed; empty where it is met."""
        if self.reached >= 1:
            return ""
        return f"{self.what} by {1 / self.reached - 1 if self.what == 'bytes' else 1 - self.reached:.0%}"


def checks(target: Target, member: Measured, rows: Mapping[str, Measured]) -> list[Check]:
    """All conditions of a target on a member; those on a row that was not measured are left out."""
    found = []
    asked = rows[target.size].bytes if isinstance(target.size, str) and target.size in rows else target.size
    if not isinstance(asked, str):
        size = f"{asked / 1e6:.0f} MB" + (f" ({target.size})" if isinstance(target.size, str) else "")
        found.append(Check("bytes", size, asked / member.bytes, f"{member.bytes / 1e6:.0f} MB"))
    for what in ("decode", "prefill"):
        for title, factor in getattr(target, what).items():
            if title in rows and rows[title].decode.keys() & member.decode.keys():
                ratio = timing.speedup(getattr(member, what), getattr(rows[title], what))
                found.append(Check(what, f"{factor:g}x {title}", ratio.value / factor, f"{factor_text(ratio)} {title}"))
    return found


def best(target: Target, rows: Sequence[Measured]) -> tuple[Measured, list[Check]] | None:
    """The member within the loss whose worst condition is met best, with its conditions; None where none is within.

    A member that was not timed, while others were, meets no condition on speed: it does not stand for the target.
    """
    by_title = {row.title: row for row in rows}
    within = [
        (row, checks(target, row, by_title))
        for row in rows
        if row.engine == OLIVINE and row.divergence(ENCYCLOPEDIA).value <= target.kl
    ]
    known = max((len(conditions) for _, conditions in within), default=0)
    whole = [pair for pair in within if len(pair[1]) == known]
    return max(whole, key=lambda pair: min(check.reached for check in pair[1]), default=None)


def factor_text(ratio: Interval) -> str:
    """A ratio with its interval."""
    return f"{ratio.value:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"
