"""Layer kernels: the format that a recipe stores each linear layer in, and the kernel that runs it."""

from __future__ import annotations

from collections.abc import Mapping

from olivine.passes.kernel import DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN, FLOAT, Kernel
from olivine.passes.quantize.blocks.block_format import BlockFormat
from olivine.passes.quantize.layer_format import Format
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.quantize_pass import QuantizePass
from olivine.passes.recipe import Recipe


def layer_formats(recipe: Recipe, losses: Mapping[str, LayerLoss]) -> dict[str, tuple[Format, int]]:
    """Path of every linear layer -> the format that a recipe stores it in, and the accuracy level of its kernel."""
    left = dict(losses)
    stored: dict[str, tuple[Format, int]] = {}
    for step in recipe.passes():
        if not isinstance(step, QuantizePass):
            continue
        for path, form in step.formats(left).items():
            stored[path] = (form, int(getattr(step, "accuracy_level", 0)))
        left = {path: loss for path, loss in losses.items() if path not in stored}
    return {path: stored.get(path, (None, 0)) for path in losses}


def recipe_kernels(recipe: Recipe, losses: Mapping[str, LayerLoss]) -> frozenset[Kernel]:
    """The kernels that a candidate runs its linear layers with."""
    return frozenset(kernel_of(form, level) for form, level in layer_formats(recipe, losses).values())


def kernel_of(form: Format, accuracy_level: int) -> Kernel:
    """The kernel that runs a layer in this format, at this accuracy level."""
    if form is None:
        return FLOAT
    if isinstance(form, BlockFormat):
        return Kernel(form.bits, form.block_size, accuracy_level, "float")
    return DYNAMIC_INT8_BY_TOKEN if form.by_token else DYNAMIC_INT8
