"""Half weights: a checkpoint in 16 bits that computes in float32, with a module's weights widened while it runs.

A float16 or bfloat16 weight is a float32 one without its last digits, so the result is that of a checkpoint that was
widened as a whole, to the bit; the memory is that of one decoder layer instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def half_type(checkpoint: Path) -> torch.dtype | None:
    """The 16-bit type of all weights of a checkpoint in safetensors; None where they have another, or several."""
    import torch
    from safetensors import safe_open

    found = set[str]()
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            found.update(file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118 - no mapping
    return {frozenset({"F16"}): torch.float16, frozenset({"BF16"}): torch.bfloat16}.get(frozenset(found))


def widen_while_running(model: torch.nn.Module) -> None:
    """Let every module of a model in 16 bits compute in float32; its weights stay as they are between its runs.

    What autograd keeps of a widened weight lives as long as its graph: that of one decoder layer, where layers are
    run again in the backward pass (``torch.utils.checkpoint``).
    """
    import torch

    for module in model.modules():
        if type(module) is torch.nn.Embedding:  # its rows are widened, not its table
            module.register_forward_hook(lambda module, inputs, rows: rows.float())
        elif any(weight.is_floating_point() for weight in module.parameters(recurse=False)):
            own = dict(module.named_parameters(recurse=False))
            module.register_forward_pre_hook(partial(_widen, own))
            module.register_forward_hook(partial(_restore, own), always_call=True)


@contextmanager
def widened(module: torch.nn.Module) -> Iterator[None]:
    """Let a module and all below it have weights in float32 within the block; those in float32 stay where they are."""
    weights = [(part, dict(part.named_parameters(recurse=False))) for part in module.modules()]
    for part, own in weights:
        _widen(own, part, None)
    try:
        yield
    finally:
        for part, own in weights:
            _restore(own, part, None, None)


def _widen(own: Mapping[str, torch.nn.Parameter], module: torch.nn.Module, inputs: Any) -> None:
    import torch

    for name, weight in own.items():
        # A new parameter: autograd keeps the object itself, whose values must not change back.
        module._parameters[name] = torch.nn.Parameter(weight.float(), requires_grad=False)


def _restore(own: Mapping[str, torch.nn.Parameter], module: torch.nn.Module, inputs: Any, outputs: Any) -> None:
    module._parameters.update(own)
