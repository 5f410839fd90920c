"""Output gradients: the weight of an error in a linear layer's output, by what it does to a model's predictions.

For small errors the KL divergence to the model itself is half of ``E[(g . error)^2]``, where g is the gradient of the
log-likelihood of a token drawn from the model's own prediction (the Fisher information; Martens 2014,
arXiv 1412.1193, section 9). One backward pass of the checkpoint over some text gives ``E[g_n^2]`` of every output
feature n of every layer; no weight needs a gradient.

Memory is that of one decoder layer and of a few tokens' logits: each layer is run again when its turn comes in the
backward pass (Chen, Xu, Zhang and Guestrin 2016, arXiv 1604.06174), the head is run in parts, and weights of 16 bits
are widened a module at a time (``half_weights.py``).
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from olivine.passes.artifact import ModelArtifact
from olivine.passes.errors import PassRefused
from olivine.passes.graph import HEAD
from olivine.passes.learn.calibration import load_tokens
from olivine.passes.learn.half_weights import half_type, widen_while_running
from olivine.passes.learn.merged_layers import pieces
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

if TYPE_CHECKING:
    import torch

#: Raised whenever the same checkpoint and tokens would give other gradients.
VERSION = 3
#: Windows of the calibration text that are run: the average over tokens settles sooner than the Hessians do. On the
#: demo model, layers chosen by two windows of 512 leave 0.2 % more loss than those chosen by eight, by one 1.2 %.
MOST_WINDOWS = 2
#: Tokens that the head predicts at a time.
HEAD_TOKENS = 64
_LIBRARIES = ("torch", "transformers")
_FILE = "powers.npz"
_BLOCK = re.compile(r"layers\.\d+$")
_MODULE = re.compile(r"layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)$")


@dataclass(frozen=True)
class OutputGradients:
    """Mean squared gradients of the log-likelihood.

    Attributes:
        powers: path of a layer, as in :attr:`olivine.passes.graph.Linear.path` -> float32 [N], per token.
    """

    powers: Mapping[str, np.ndarray]

    def of(self, path: str, sizes: Mapping[str, int]) -> np.ndarray:
        """``E[g_n^2]`` of the output features of one layer of a graph, float32 [N].

        Graph and checkpoint may merge different layers: what the graph merges is put together, and what the checkpoint
        merges (Phi3's q, k and v, gate and up) is cut.

        Args:
            path: of the layer.
            sizes: path -> output features of every linear layer of its graph.

        Raises:
            PassRefused: when the checkpoint has no such layer.
        """
        parts = pieces(path, sizes, {known: len(power) for known, power in self.powers.items()})
        if parts is None:
            raise PassRefused(f"sensitivity: the checkpoint has no linear layer that is {path} of the graph")
        return np.concatenate([self.powers[part.path][part.start : part.stop] for part in parts])


def gradients_key(checkpoint: str, calibration: str) -> str:
    """Hash of everything that the gradients of a checkpoint depend on."""
    return digest(["gradients", VERSION, checkpoint, calibration, {name: version(name) for name in _LIBRARIES}])


def capture_gradients(
    checkpoint_key: str, checkpoint: Callable[[], ModelArtifact], calibration: str, cache: Cache
) -> OutputGradients:
    """Run calibration text forwards and backwards through a checkpoint, or take the gradients from the cache.

    Args:
        checkpoint_key: of a Hugging Face checkpoint.
        checkpoint: gives its folder; called where the gradients are not in the cache.
        calibration: key of the windows, as :func:`olivine.passes.learn.calibration.store_tokens` gives it.
        cache: keeps both.

    Raises:
        PassRefused: when neither the gradients nor the windows are in the cache.
    """
    key = gradients_key(checkpoint_key, calibration)

    def write(to: Path) -> frozenset[str]:
        tokens = load_tokens(cache, calibration)[:MOST_WINDOWS]
        np.savez(to / _FILE, allow_pickle=False, **_run(checkpoint().path, tokens))
        give_back()
        return frozenset({"gradients"})

    entry = cache.get(key) or cache.put(key, write)
    with np.load(entry.path / _FILE) as powers:
        return OutputGradients({path: powers[path] for path in powers.files})


class _PowerSums:
    """Sums of the squared gradients of layers' outputs, float32 [N] each.

    Attributes:
        totals: path of a layer -> its sum so far.
    """

    def __init__(self) -> None:
        self.totals: dict[str, torch.Tensor] = {}

    def add(self, path: str, powers: torch.Tensor) -> None:
        """Add to a layer's sum."""
        self.totals[path] = powers if path not in self.totals else self.totals[path] + powers

    def hook(self, path: str) -> Callable[[Any, Sequence[Any], Sequence[torch.Tensor]], None]:
        """A backward hook that adds the gradients of a layer's outputs."""

        def add_gradients(module: Any, of_inputs: Sequence[Any], of_outputs: Sequence[torch.Tensor]) -> None:
            gradient = of_outputs[0].reshape(-1, of_outputs[0].shape[-1])
            self.add(path, gradient.square().sum(0))

        return add_gradients


def _run(checkpoint: Path, tokens: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    from torch.utils.checkpoint import checkpoint as checkpoint_activations
    from transformers import AutoModelForCausalLM

    from olivine.passes.export.deferred import MappedFile, checkpoints_open_as

    own_code = any(checkpoint.glob("*.py"))  # a source writes code only where trust_remote_code was given
    half = None if own_code else half_type(checkpoint)
    with checkpoints_open_as(MappedFile):  # weights of the type that the model has stay in their file
        model = AutoModelForCausalLM.from_pretrained(
            checkpoint, dtype=half or torch.float32, trust_remote_code=own_code
        )
    model.eval().requires_grad_(False)
    if half is not None:
        widen_while_running(model)
    model.config.use_cache = False
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, embedded: embedded.requires_grad_())
    sums = _PowerSums()
    for name, module in model.named_modules():
        if (layer := _MODULE.search(name)) and isinstance(module, torch.nn.Linear):
            module.register_full_backward_hook(sums.hook(f"layers.{layer[1]}/{layer[2]}"))
        if _BLOCK.search(name):
            module.forward = partial(checkpoint_activations, module.forward, use_reentrant=False)
    generator = torch.Generator().manual_seed(0)
    for window in tokens:
        hidden, head = _before_head(model, torch.from_numpy(window[None].astype(np.int64)))
        pieces_of = torch.split(hidden.detach()[0], HEAD_TOKENS)
        parts = [_through_head(piece, head, sums, generator) for piece in pieces_of]
        torch.autograd.backward(hidden, torch.cat(parts)[None])
    return {path: (total / tokens.size).numpy() for path, total in sums.totals.items()}


def _before_head(model: Any, window: torch.Tensor) -> tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor]]:
    """Inputs of the head, [1, tokens, size], with their graph; and the head: [tokens, size] -> logits.

    A model that does more to its logits than a product (a soft cap, a scale) is its own head: a module that reads
    the logits, so that they exist for all tokens at once.
    """
    import torch

    module = model.get_output_embeddings()
    read: list[torch.Tensor] = []

    def last_only(module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        read.append(inputs[0])
        return (inputs[0][:, -1:],)

    handle = module.register_forward_pre_hook(last_only)
    try:
        last = model(window).logits[:, -1:]
    finally:
        handle.remove()
    if torch.equal(module(read[0][:, -1:]), last):
        return read[0], module
    return model(window).logits, lambda logits: logits


def _through_head(
    read: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    sums: _PowerSums,
    generator: torch.Generator,
) -> torch.Tensor:
    """Gradient of the loss of tokens that are drawn from a model's own prediction, by what its head reads."""
    import torch

    read = read.detach().requires_grad_()
    logits = head(read).float()
    probabilities = logits.detach().softmax(-1)
    drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    sums.add(HEAD, (probabilities * (1 - probabilities)).sum(0))  # exact: it needs no draw
    torch.autograd.backward(torch.nn.functional.cross_entropy(logits, drawn, reduction="sum"))
    assert read.grad is not None
    return read.grad


def give_back() -> None:
    """Return memory that was freed to the system, where the C library can (glibc's malloc_trim(3))."""
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
