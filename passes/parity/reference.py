"""The reference: a checkpoint run by transformers in float32, its weights read from their files layer by layer."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from olivine.passes.errors import SourceError
from olivine.passes.export.deferred import Deferred, DeferredFile, MappedFile, checkpoints_open_as, computed
from olivine.passes.sources.weights.fit import LOAD_ERRORS, RANDOM, Fit
from olivine.passes.sources.weights.safetensors_header import read_header


class Reference:
    """A checkpoint that answers with logits and with the hidden states between its layers.

    Attributes:
        config: its text model's config.
        parameters: how many weights it has.
    """

    def __init__(self, checkpoint: Path, trust_remote_code: bool = False) -> None:
        """Load it; weights stay in their files until they are used.

        Raises:
            SourceError: when transformers can't load it, or it lacks weights.
        """
        self._model = _loaded(checkpoint, trust_remote_code)
        self.config = self._model.config.get_text_config()
        self.parameters = sum(parameter.numel() for parameter in self._model.parameters())
        self._layers = [module for module in self._model.modules() if _is_layer(module)]
        _read_when_used(self._model, self._layers)

    @torch.no_grad()
    def logits(self, ids: Sequence[int], pieces: Sequence[int]) -> Iterator[np.ndarray]:
        """Logits [tokens of the piece, vocabulary] of each piece, in order, float32; all tokens are read at once."""
        base = self._model.base_model
        output = base(**_inputs(ids), use_cache=False)
        for part in torch.split(output.last_hidden_state, list(pieces), dim=1):
            answer = copy.copy(output)
            answer.last_hidden_state = part
            # The model's own head, whatever that is, run on hidden states that are known.
            with _answers(base, answer):
                tokens = torch.zeros(part.shape[:2], dtype=torch.long)
                yield self._model(input_ids=tokens, use_cache=False).logits[0].float().numpy()

    @contextlib.contextmanager
    def adapted(self, products: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Iterator[None]:
        """Let linear layers add ``x @ down @ up`` to what they put out.

        Args:
            products: name of each module -> ``down`` [inputs, rank] and ``up`` [rank, outputs].
        """
        with contextlib.ExitStack() as hooks:
            for name, factors in products.items():
                down, up = map(torch.from_numpy, factors)
                module = self._model.get_submodule(name)
                hooks.callback(module.register_forward_hook(partial(_add_product, down, up)).remove)
            yield

    @torch.no_grad()
    def hidden_states(self, ids: Sequence[int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The residual stream, and the outputs of attention, each [tokens, hidden size].

        Returns:
            What enters the first layer and what leaves each; what attention gives in each layer that has such a module.
        """
        streams: list[np.ndarray] = []
        attentions: list[np.ndarray] = []
        with contextlib.ExitStack() as hooks:
            for index, layer in enumerate(self._layers):
                if index == 0:
                    hooks.callback(
                        layer.register_forward_pre_hook(partial(_keep_input, streams), with_kwargs=True).remove
                    )
                hooks.callback(layer.register_forward_hook(partial(_keep_output, streams)).remove)
                attention = getattr(layer, "self_attn", None)
                if attention is not None:
                    hooks.callback(attention.register_forward_hook(partial(_keep_output, attentions)).remove)
            self._model.base_model(**_inputs(ids), use_cache=False)
        return streams, attentions


def _loaded(checkpoint: Path, trust_remote_code: bool) -> Any:
    import transformers

    architecture = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    auto = getattr(transformers, architecture, transformers.AutoModelForCausalLM)
    try:
        with contextlib.redirect_stderr(io.StringIO()), checkpoints_open_as(_kind(checkpoint)):  # progress bars
            model, info = auto.from_pretrained(
                checkpoint,
                dtype=torch.float32,
                output_loading_info=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
            )
    except LOAD_ERRORS as error:
        raise SourceError(f"transformers can't load the checkpoint: {type(error).__name__}: {error}") from error
    if mistake := Fit.of(info).mistake(architecture):
        raise SourceError(f"{mistake}. {RANDOM}")
    return model.eval()


def _kind(checkpoint: Path) -> type[DeferredFile]:
    """The way to read its weights: as pages of the file where they are float32, converted layer by layer where not."""
    types = {about["dtype"] for file in checkpoint.glob("*.safetensors") for about in read_header(file).values()}
    return MappedFile if types <= {"F32"} else DeferredFile


def _is_layer(module: Any) -> bool:
    return type(module).__name__.endswith(("DecoderLayer", "GLMBlock"))


def _inputs(ids: Sequence[int]) -> dict[str, torch.Tensor]:
    tokens = torch.tensor([list(ids)])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}


def _read_when_used(model: Any, layers: Sequence[Any]) -> None:
    """Let each layer, and each module outside of layers, have its weights in memory only while it runs."""
    inside = {module for layer in layers for module in layer.modules()}
    outside = [module for module in model.modules() if module not in inside and module._parameters]
    for runs, owners in [
        *((layer, list(layer.modules())) for layer in layers),
        *((module, [module]) for module in outside),
    ]:
        stored = [
            (owner, name, value)
            for owner in owners
            for name, value in owner._parameters.items()
            if isinstance(value, Deferred)
        ]
        runs.register_forward_pre_hook(partial(_read, stored))
        runs.register_forward_hook(partial(_drop, stored), always_call=True)


def _read(stored: Sequence[tuple[Any, str, torch.Tensor]], *_: Any) -> None:
    for owner, name, value in stored:
        owner._parameters[name] = torch.nn.Parameter(computed(value), requires_grad=False)


def _drop(stored: Sequence[tuple[Any, str, torch.Tensor]], *_: Any) -> None:
    for owner, name, value in stored:
        owner._parameters[name] = value


@contextlib.contextmanager
def _answers(module: Any, answer: Any) -> Iterator[None]:
    """Let a module answer with what is known."""
    before = module.forward
    module.forward = lambda *_, **__: answer
    try:
        yield
    finally:
        module.forward = before


def _add_product(down: torch.Tensor, up: torch.Tensor, _: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
    product: torch.Tensor = args[0] @ down @ up
    return output + product


def _keep_input(rows: list[np.ndarray], _: Any, args: Any, kwargs: Any) -> None:
    rows.append(_rows(args[0] if args else kwargs["hidden_states"]))


def _keep_output(rows: list[np.ndarray], _: Any, __: Any, output: Any) -> None:
    rows.append(_rows(output[0] if isinstance(output, tuple) else output))


def _rows(hidden: torch.Tensor) -> np.ndarray:
    return np.array(hidden[0].float().numpy())
