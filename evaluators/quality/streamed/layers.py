"""StreamedModel: a checkpoint whose decoder layers run one after the other, each over all of a text.

The model's own code does everything: for layer n it runs as far as that layer, whose input is taken from the last
round; the layers before pass on what they are given. So embedding, masks and rotary tables are those of the
architecture, whatever it is. Weights are pages of the checkpoint's files, and those of one layer are widened to
float32 while it runs; of the embedding only rows of tokens that occur are, and of the head some rows at a time.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from olivine.passes.errors import OlivineError
from olivine.passes.export.deferred import MappedFile, checkpoints_open_as
from olivine.passes.learn.half_weights import half_type, widened

#: Positions whose logits exist at a time, and rows of the head that are widened at a time.
HEAD_TOKENS, HEAD_ROWS = 128, 8192


class NotStreamed(OlivineError):
    """A checkpoint that can't be run layer by layer; the message says why."""


class _Reached(Exception):
    """The layer that a run was for has its output; no error."""


class StreamedModel:
    """A checkpoint, opened without loading it.

    Args:
        checkpoint: folder of config.json and safetensors.
        tokens: token ids that its embedding will be asked for.

    Raises:
        NotStreamed: when its modules are not laid out as a decoder that can be run layer by layer.
    """

    def __init__(self, checkpoint: Path, tokens: np.ndarray) -> None:
        from transformers import AutoModelForCausalLM

        if any(checkpoint.glob("*.py")):
            raise NotStreamed("the checkpoint brings code of its own")
        with checkpoints_open_as(MappedFile):  # weights of the type that the model has stay in their files
            model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=half_type(checkpoint) or torch.float32)
        self._model = model.eval().requires_grad_(False)
        self._model.config.use_cache = False
        self._layers = _decoder_layers(self._model)
        self._chunks = "logits_to_keep" in inspect.signature(self._model.forward).parameters
        self._wanted, self._given, self._last = -1, torch.empty(0), torch.empty(0)
        _narrow_embedding(self._model.get_input_embeddings(), tokens)
        _split_head(self._model.get_output_embeddings())
        for index, layer in enumerate(self._layers):
            layer.forward = partial(self._layer, index, layer.forward)

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self._layers)

    @property
    def size(self) -> int:
        """Numbers of a hidden state."""
        return int(self._model.get_input_embeddings().weight.shape[1])

    def run_layer(
        self, index: int, windows: Sequence[np.ndarray], states: Sequence[np.ndarray]
    ) -> Iterator[np.ndarray]:
        """Run one layer over every window.

        Args:
            index: of the layer.
            windows: token ids [length] of each window.
            states: hidden states [length, size] that the layer reads, of each window; anything for the first layer.

        Yields:
            The layer's outputs, float32 [length, size].
        """
        self._wanted = index
        with widened(self._layers[index]), torch.inference_mode():
            for window, state in zip(windows, states, strict=True):
                if index:
                    self._given = torch.from_numpy(np.array(state))[None]
                try:
                    self._run(window)
                except _Reached:
                    yield self._last[0].numpy()
                else:
                    raise NotStreamed(f"the model ends without its layer {index}")

    def logits(self, window: np.ndarray, state: np.ndarray, first: int) -> Iterator[np.ndarray]:
        """Run norm and head on the last layer's output ``state`` [length, size].

        Yields:
            Float32 logits [positions, vocabulary] of the positions from ``first`` to the last but one, some at a time.
        """
        self._wanted, self._given = self.layers, torch.from_numpy(np.array(state))[None]
        end = len(window) - 1
        with torch.inference_mode():
            if not self._chunks:
                yield self._run(window).logits[0, first:end].float().numpy()
                return
            for start in range(first, end, HEAD_TOKENS):
                kept = torch.arange(start, min(start + HEAD_TOKENS, end))
                yield self._run(window, logits_to_keep=kept).logits[0].float().numpy()

    def _run(self, window: np.ndarray, **options: Any) -> Any:
        return self._model(torch.from_numpy(window.astype(np.int64))[None], use_cache=False, **options)

    def _layer(self, index: int, forward: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Stand in for a layer's own ``forward``.

        Raises:
            NotStreamed: when the model does more between its layers than to pass on what they give.
        """
        if index and hidden_states is not self._last:
            raise NotStreamed("the model changes hidden states between its layers")
        if index == self._wanted:
            output = forward(self._given if index else hidden_states, *args, **kwargs)
            if not isinstance(output, torch.Tensor):
                raise NotStreamed("a layer gives more than its hidden states")
            self._last = output
            raise _Reached
        last = index + 1 == self.layers
        self._last = self._given if last else hidden_states
        return self._last


def _decoder_layers(model: Any) -> Any:
    """The decoder layers of a model.

    Raises:
        NotStreamed: when it has none by that name, shares keys and values between them, or has weights elsewhere.
    """
    decoder = model.get_decoder()
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, torch.nn.ModuleList) or not len(layers):
        raise NotStreamed(f"{type(model).__name__} has no list of decoder layers")
    if getattr(model.config, "num_kv_shared_layers", 0):
        raise NotStreamed("layers share their keys and values")
    known = [model.get_input_embeddings(), model.get_output_embeddings(), getattr(decoder, "norm", None), *layers]
    weights = {id(weight) for module in known if module is not None for weight in module.parameters()}
    others = [name for name, weight in model.named_parameters() if id(weight) not in weights]
    if others:
        raise NotStreamed(f"weights beside its decoder layers: {others[0]}")
    norm = getattr(decoder, "norm", None)
    for name, weight in [] if norm is None else list(norm.named_parameters(recurse=False)):
        setattr(norm, name, torch.nn.Parameter(weight.float(), requires_grad=False))
    return layers


def _narrow_embedding(embedding: Any, tokens: np.ndarray) -> None:
    """Give an embedding a table in float32 of which only the rows of ``tokens`` are written, hence in memory."""
    weight, rows = embedding.weight, torch.from_numpy(np.unique(tokens).astype(np.int64))
    table = torch.empty(weight.shape, dtype=torch.float32)
    table[rows] = weight[rows].float()
    embedding.weight = torch.nn.Parameter(table, requires_grad=False)


def _split_head(head: Any) -> None:
    """Let a head widen some of its rows at a time.

    Raises:
        NotStreamed: when it is no linear layer.
    """
    if type(head) is not torch.nn.Linear:
        raise NotStreamed(f"its head is a {type(head).__name__}")
    weight, bias = head.weight, head.bias

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        logits = hidden.new_empty(*hidden.shape[:-1], len(weight))
        for start in range(0, len(weight), HEAD_ROWS):
            rows = slice(start, start + HEAD_ROWS)
            logits[..., rows] = torch.nn.functional.linear(hidden, weight[rows].float())
        return logits if bias is None else logits.add_(bias.float())

    setattr(head, "forward", forward)  # noqa: B010 - mypy takes it for a method
