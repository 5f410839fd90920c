"""Linear layers of a checkpoint's decoder, by the paths that the exported graph knows them by.

A checkpoint may have layers of other parts beside them (a vision tower), and several modules in a layer that end alike
(experts beside a shared one): a path must not lead from one to the other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

_LAYER = re.compile(r"(?P<stack>(?:.+\.)?)layers\.(?P<number>\d+)\.(?:.+\.)?(?P<role>\w+)")
#: Module beside a decoder's layers that other stacks of layers do not have.
_EMBEDDING = "embed_tokens"


def layer_path(module: str) -> str | None:
    """``layers.3/q_proj`` of ``model.layers.3.self_attn.q_proj``; None for a module outside of the layers."""
    parts = _LAYER.fullmatch(module)
    return None if parts is None else f"layers.{parts['number']}/{parts['role']}"


def decoder_modules(modules: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Path -> modules of the decoder's layers that have it, in order; more than one where a path tells them not apart.

    Args:
        modules: names of all modules of the checkpoint.
    """
    known = list(modules)
    layers = [(module, parts["stack"]) for module in known if (parts := _LAYER.fullmatch(module)) is not None]
    stacks = {stack for _, stack in layers}
    decoders = {stack for stack in stacks if f"{stack}{_EMBEDDING}" in known} or stacks
    found: dict[str, list[str]] = defaultdict(list)
    for module, stack in layers:
        if stack in decoders:
            found[str(layer_path(module))].append(module)
    return {path: tuple(together) for path, together in found.items()}
