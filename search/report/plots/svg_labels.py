"""Places of labels beside their points, so that they cover nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LABEL_HEIGHT = 14.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; ``top`` is the smaller y."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, x: float, y: float, radius: float) -> Box:
        """The square around a mark."""
        return cls(x - radius, y - radius, x + radius, y + radius)

    def meets(self, other: Box) -> bool:
        """True when the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """True when this one lies inside of ``other``."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def place(x: float, y: float, width: float, gap: float, occupied: Sequence[Box], inside: Box) -> Box | None:
    """The first free place around (x, y) for a label of ``width``; None where every place covers something.

    The places are tried in the order of Imhof (1975), Positioning names on maps: upper right first, then the
    other corners, then the four sides.
    """
    side = low = 0.9 * gap
    high = LABEL_HEIGHT
    corners = [
        (x + side, y - low - high),
        (x - side - width, y - low - high),
        (x + side, y + low),
        (x - side - width, y + low),
        (x - width / 2, y - gap - high),
        (x - width / 2, y + gap),
        (x + gap, y - high / 2),
        (x - gap - width, y - high / 2),
    ]
    for left, top in corners:
        box = Box(left, top, left + width, top + high)
        if box.within(inside) and not any(box.meets(other) for other in occupied):
            return box
    return None
