"""A folder of olivine beside other engines, in a few numbers a row, as reports and terminals show it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

HEADINGS = (
    "engine",
    "format",
    "MB",
    "decode tok/s",
    "selection's over it",
    "prefill tok/s",
    "selection's over it",
)


@dataclass(frozen=True)
class PeerRow:
    """One row of the comparison.

    Attributes:
        engine: that deploys it.
        name: of the format.
        bytes: of all that is deployed.
        kl: kind of text -> value, low and high of the KL divergence from the float checkpoint, in nats a token.
        decode: tokens per second; None where nothing was timed undisturbed.
        prefill: likewise.
        decode_over: value, low and high of olivine's decode over this one's; None of olivine's own row.
        prefill_over: likewise.
    """

    engine: str
    name: str
    bytes: int
    kl: Mapping[str, Sequence[float]]
    decode: float | None
    prefill: float | None
    decode_over: Sequence[float] | None
    prefill_over: Sequence[float] | None

    def cells(self) -> list[str]:
        """The row's cells below ``HEADINGS``, then one for each kind of text."""
        speed = [_rate(self.decode), _factor(self.decode_over), _rate(self.prefill), _factor(self.prefill_over)]
        losses = ["{:.4f} [{:.4f}, {:.4f}]".format(*ends) for ends in self.kl.values()]
        return [self.engine, self.name, f"{self.bytes / 1e6:.0f}", *speed, *losses]


def headings(rows: Sequence[PeerRow]) -> list[str]:
    """Headings of the table of some rows."""
    return [*HEADINGS, *(f"KL on {kind}" for kind in (rows[0].kl if rows else ()))]


def to_json(rows: Sequence[PeerRow]) -> str:
    """The rows as a file holds them."""
    return json.dumps([asdict(row) for row in rows], indent=1)


def from_json(text: str) -> list[PeerRow]:
    """The inverse of :func:`to_json`."""
    return [PeerRow(**row) for row in json.loads(text)]


def _rate(value: float | None) -> str:
    return "not timed" if value is None else f"{value:.0f}"


def _factor(ends: Sequence[float] | None) -> str:
    return "" if ends is None else "{:.2f}x [{:.2f}, {:.2f}]".format(*ends)
