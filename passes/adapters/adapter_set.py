"""The adapters of one export: read together, given places in the recipe, written and compared with their checkpoint."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from olivine.passes.adapters.adapter_file import adapter_path, graph_factors, write_adapter
from olivine.passes.adapters.decoder_layers import layer_path
from olivine.passes.adapters.peft_folder import Factors, LoraAdapter, read_adapter
from olivine.passes.adapters.slots import AdapterSlots, places
from olivine.passes.base import ExportPass
from olivine.passes.errors import UsageError
from olivine.passes.recipe import Recipe, Step
from olivine.passes.sources.weights.safetensors_header import read_header
from olivine.passes.transforms.prune_head import unpruned
from olivine.passes.transforms.rotate import Rotate

if TYPE_CHECKING:
    from olivine.passes.parity.adapter_effect import AdapterEffect

_WEIGHT = ".weight"


@dataclass(frozen=True)
class AdapterSet:
    """Adapters of one model.

    Attributes:
        checkpoint: the model's.
        shapes: module of the checkpoint -> shape of its weight.
        adapters: in the order in which they were named.
    """

    checkpoint: Path
    shapes: Mapping[str, tuple[int, ...]]
    adapters: tuple[LoraAdapter, ...]

    @classmethod
    def read(cls, checkpoint: Path, folders: Mapping[str, Path]) -> AdapterSet:
        """Read adapters, and check that each is LoRA and of this model.

        Raises:
            UsageError: for the first that is not.
        """
        headers = [read_header(file) for file in sorted(checkpoint.glob("*.safetensors"))]
        shapes = {
            name.removesuffix(_WEIGHT): tuple(about["shape"])
            for header in headers
            for name, about in header.items()
            if name.endswith(_WEIGHT) and len(about["shape"]) == 2
        }
        adapters = [read_adapter(name, folder, shapes) for name, folder in folders.items()]
        return cls(checkpoint, shapes, tuple(adapters))

    def slots(self) -> AdapterSlots:
        """The pass that gives a graph places in each layer that one of them adds to."""
        roles: dict[str, set[str]] = defaultdict(set)
        for path in map(layer_path, {module for adapter in self.adapters for module in adapter.factors}):
            layer, _, role = str(path).partition("/")
            roles[layer].add(role)
        layers: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for layer in sorted(roles, key=_number):
            layers[tuple(sorted(roles[layer]))].append(layer.removeprefix("layers."))
        return AdapterSlots("|".join(_pattern(numbers, together) for together, numbers in layers.items()))

    def in_recipe(self, recipe: Recipe) -> Recipe:
        """The recipe with places for the adapters in its float graph, before anything quantizes that."""
        slots = self.slots()
        exports = [number for number, p in enumerate(recipe.passes()) if isinstance(p, ExportPass)]
        if not exports:
            raise UsageError("Adapters take a recipe that exports a checkpoint; this model is a graph already")
        after = exports[0] + 1
        step = Step.of(slots.name, slots.params())
        return replace(recipe, steps=(*recipe.steps[:after], step, *recipe.steps[after:]))

    def write(self, graph: Path, recipe: Recipe, folder: Path) -> None:
        """Write a file of each adapter below an exported folder.

        Args:
            graph: with places.
            recipe: that it was made by; where it rotates the checkpoint, the adapters are rotated likewise.
            folder: the exported one.

        Raises:
            UsageError: for an adapter of whose layers the graph has none.
        """
        found = places(graph)
        for adapter in self.adapters:
            turned = self._turned(adapter, recipe)
            added = graph_factors(turned, self.shapes, found, adapter.name)
            write_adapter(added, found, adapter_path(folder, adapter.name))

    def check(self, folder: Path, tokens: list[int]) -> dict[str, AdapterEffect]:
        """Compare what each adapter does in an exported folder with what it does in the checkpoint.

        Raises:
            WrongGraph: where the difference is more than the loss of the folder without adapters explains.
        """
        from olivine.passes.parity.adapter_effect import adapter_effects  # imports torch

        files = {adapter.name: adapter_path(folder, adapter.name) for adapter in self.adapters}
        factors = {
            adapter.name: {module: (added.down, added.up) for module, added in adapter.factors.items()}
            for adapter in self.adapters
        }
        with unpruned(folder) as scored:
            return adapter_effects(self.checkpoint, scored, tokens, factors, files)

    def _turned(self, adapter: LoraAdapter, recipe: Recipe) -> Mapping[str, Factors]:
        """The factors for the weights that the graph has."""
        rotations = [p for p in recipe.passes() if isinstance(p, Rotate)]
        turned = dict(adapter.factors)
        for rotate in rotations:
            for module, added in turned.items():
                turned[module] = Factors(*rotate.rotated_product(self.checkpoint, module, added.down, added.up))
        return turned


def _pattern(numbers: list[str], roles: tuple[str, ...]) -> str:
    return rf"layers\.({'|'.join(numbers)})/({'|'.join(map(re.escape, roles))})"


def _number(layer: str) -> int:
    return int(layer.removeprefix("layers."))
