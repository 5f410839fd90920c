"""Every pass there is, in pipeline order. Adding a pass is one file and one line here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from olivine.passes.adapters.slots import AdapterSlots
from olivine.passes.base import Axis, Choice, Pass, Scalar
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.export.export import Export
from olivine.passes.graphs.fuse import GraphFuse
from olivine.passes.graphs.quantize import GraphDynamicQuantize, GraphStaticQuantize
from olivine.passes.graphs.session_options import GraphSessionOptions
from olivine.passes.graphs.weight_only import GraphWeightOnlyQuantize
from olivine.passes.quantize.coded.as_it_came import AsItCame
from olivine.passes.quantize.dynamic import DynamicQuantize
from olivine.passes.quantize.embedding import QuantizeEmbedding
from olivine.passes.quantize.kv_cache import QuantizeCache
from olivine.passes.quantize.mixed import MixedQuantize
from olivine.passes.quantize.shared_embedding import ShareEmbedding
from olivine.passes.quantize.weight_only import WeightOnlyQuantize
from olivine.passes.recipe import Recipe, Step
from olivine.passes.transforms.chunked_prefill import ChunkedPrefill
from olivine.passes.transforms.context_length import ContextLength
from olivine.passes.transforms.cuda_options import CudaOptions
from olivine.passes.transforms.growing_cache import GrowingCache
from olivine.passes.transforms.prompt_attention import WholeScores
from olivine.passes.transforms.prune_head import PruneHead
from olivine.passes.transforms.rotate import Rotate
from olivine.passes.transforms.session_options import SessionOptions
from olivine.passes.transforms.speculate import Speculate


@dataclass(frozen=True)
class Catalog:
    """The passes that one kind of model takes, in pipeline order, and the search space that their axes span.

    Attributes:
        passes: that axes ask for.
        exported_with: passes that an export may add to a recipe, which no axis asks for.
    """

    passes: tuple[type[Pass], ...]
    exported_with: tuple[type[Pass], ...] = ()

    @cached_property
    def axes(self) -> Mapping[str, Axis]:
        """Every axis that a pass declares, in the order in which they are chosen: after those that it depends on."""
        return {axis.name: axis for cls in self.passes for axis in cls.axes}

    def canonical(self, choice: Choice) -> dict[str, Scalar]:
        """Fill in defaults, and drop every axis that does not exist for the values before it.

        Raises:
            UsageError: for an axis that no pass declares.
        """
        for name in choice:
            if name not in self.axes:
                raise UsageError(f"Unknown axis '{name}'. {did_you_mean(name, self.axes)}")
        full: dict[str, Scalar] = {}
        for name, axis in self.axes.items():
            if axis.applies(full):
                value = choice.get(name, axis.default_for(full))
                if axis.named(value, full):
                    full[name] = value
        return full

    def compose(self, choice: Choice) -> Recipe:
        """The recipe that a choice of axis values stands for; axes it does not name take their defaults.

        Raises:
            UsageError: for an axis that no pass declares, or a value that its pass refuses.
        """
        return _composed(self, tuple((name, type(value), value) for name, value in choice.items()))

    def recipe(self, steps: Sequence[Mapping[str, Any]]) -> Recipe:
        """The recipe of a record, request or manifest of such a model, from its JSON form."""
        return Recipe(tuple(Step.of(step["name"], step["params"]) for step in steps), self.known)

    @property
    def known(self) -> tuple[type[Pass], ...]:
        """Every pass that a recipe may name."""
        return (*self.passes, *self.exported_with)


@lru_cache(maxsize=8192)  # a search asks for the same ones over and over
def _composed(catalog: Catalog, items: tuple[tuple[str, type, Scalar], ...]) -> Recipe:
    """Types are part of the key: 1, 1.0 and True are equal."""
    full = catalog.canonical({name: value for name, _, value in items})
    passes = [p for cls in catalog.passes if (p := cls.from_choice(full)) is not None]
    return Recipe(tuple(Step.of(p.name, p.params()) for p in passes), catalog.known)


LANGUAGE = Catalog(
    (
        Rotate,
        Export,
        DynamicQuantize,
        WeightOnlyQuantize,
        MixedQuantize,
        AsItCame,
        QuantizeEmbedding,
        ShareEmbedding,
        QuantizeCache,
        SessionOptions,
        CudaOptions,
        ChunkedPrefill,
        ContextLength,
        GrowingCache,
        WholeScores,
        PruneHead,
        Speculate,
    ),
    exported_with=(AdapterSlots,),
)

#: Graphs that are no decoder, and encoders.
GRAPH = Catalog((GraphFuse, GraphStaticQuantize, GraphDynamicQuantize, GraphWeightOnlyQuantize, GraphSessionOptions))


def read_recipe(steps: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe of a record or manifest of either kind, from its JSON form: only language models are exported."""
    exported = any(step["name"] == Export.name for step in steps)
    return (LANGUAGE if exported or not steps else GRAPH).recipe(steps)
