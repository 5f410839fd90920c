"""Agreement of two models: the largest difference of a logit, KL divergence and top-1 agreement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

_LISTS = ("not_covered", "words")


@dataclass(frozen=True)
class Agreement:
    """Agreement of a float graph with its checkpoint.

    Attributes:
        tokens: how many positions were compared.
        largest_difference: of a logit, over all positions and the whole vocabulary.
        spread: standard deviation of the reference's logits, mean over positions.
        kl_divergence: of the graph from the reference, nats a token.
        top1_agreement: share of the positions whose likeliest token is the same.
        beyond: share of the positions with a difference beyond what rounding explains.
        precision: of the graph.
        provider: what ran the graph.
        not_covered: what of the model was not reached, as sentences.
        words: what the deployed tokenizer and chat template do otherwise than transformers', as sentences.
        seconds: that the comparison took.
    """

    tokens: int
    largest_difference: float
    spread: float
    kl_divergence: float
    top1_agreement: float
    beyond: float
    precision: str = "fp32"
    provider: str = "cpu"
    not_covered: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    seconds: float = 0.0

    def sentence(self) -> str:
        """For people."""
        return f"the base agrees with its checkpoint: {self.numbers()}"

    def numbers(self) -> str:
        """The numbers of :meth:`sentence`."""
        return (
            f"largest difference of a logit {self.largest_difference:.1g} over {self.tokens:,} tokens (KL divergence "
            f"{self.kl_divergence:.1g} nats, top-1 agreement {self.top1_agreement:.2%})"
        )

    def to_json(self) -> dict[str, Any]:
        """For records, manifests and the cache."""
        return asdict(self) | {name: list(getattr(self, name)) for name in _LISTS}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Agreement:
        """The inverse of :meth:`to_json`."""
        return cls(**{**content, **{name: tuple(content.get(name, ())) for name in _LISTS}})


def compare(pairs: Iterable[tuple[np.ndarray, np.ndarray]], tolerance: float) -> tuple[Agreement, list[int]]:
    """Compare logits of the same positions.

    Args:
        pairs: logits of a graph and of the reference, each [positions, vocabulary], piece by piece.
        tolerance: the difference that rounding explains, as a share of the reference's spread at a position.

    Returns:
        The agreement, and the positions beyond the tolerance.
    """
    import torch

    largest = spread = divergence = 0.0
    count = same = 0
    beyond: list[int] = []
    for graph, reference in pairs:
        # A vocabulary may be padded in one of the two.
        width = min(graph.shape[1], reference.shape[1])
        computed, expected = torch.from_numpy(graph[:, :width]), torch.from_numpy(reference[:, :width])
        difference = (computed - expected).abs().amax(dim=1)
        deviation = expected.std(dim=1)
        wrong = ~(difference <= tolerance * deviation.clamp(min=1e-6))  # NaN is beyond
        beyond += [count + int(position) for position in torch.nonzero(wrong)]
        logp, logq = torch.log_softmax(expected, dim=1), torch.log_softmax(computed, dim=1)
        divergence += float((logp.exp() * (logp - logq)).sum())
        same += int((computed.argmax(dim=1) == expected.argmax(dim=1)).sum())
        largest = max(largest, float(difference.nan_to_num(float("inf")).max()))
        spread += float(deviation.sum())
        count += len(graph)
    agreement = Agreement(
        count, largest, spread / count, max(0.0, divergence / count), same / count, len(beyond) / count
    )
    return agreement, beyond


def joined(parts: Iterable[Agreement]) -> Agreement:
    """The agreement on several texts as one."""
    all_parts = list(parts)
    tokens = sum(part.tokens for part in all_parts)

    def mean(name: str) -> float:
        return sum(part.tokens * float(getattr(part, name)) for part in all_parts) / tokens

    return replace(
        all_parts[0],
        tokens=tokens,
        largest_difference=max(part.largest_difference for part in all_parts),
        spread=mean("spread"),
        kl_divergence=mean("kl_divergence"),
        top1_agreement=mean("top1_agreement"),
        beyond=mean("beyond"),
    )
