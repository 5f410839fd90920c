"""The modules of a sentence transformer behind its encoder: pooling, dense layers, normalization, in their order."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivine.passes.errors import SourceError

if TYPE_CHECKING:
    import torch

#: Hidden states and their mask in, one embedding for each text out.
Head = Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]
_MODULES, _WEIGHTS = "modules.json", "model.safetensors"
_ACTIVATIONS = ("GELU", "Identity", "ReLU", "Sigmoid", "SiLU", "Tanh")
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "mean": "mean", "cls": "cls"}


@dataclass(frozen=True)
class Module:
    """A module behind the encoder.

    Attributes:
        kind: its class, such as ``Pooling``.
        folder: where its config and weights lie.
    """

    kind: str
    folder: Path


def sentence_modules(folder: Path) -> tuple[Module, ...]:
    """The modules behind the encoder of a sentence transformer; none for another model.

    Raises:
        SourceError: when one lies outside of the model's folder, or is of a kind that is not exported.
    """
    path = folder / _MODULES
    if not path.is_file():
        return ()
    modules = []
    for module in json.loads(path.read_text(encoding="utf-8")):
        kind, name = str(module["type"]).rpartition(".")[2], str(module["path"])
        if kind in ("Transformer", "Dropout"):
            continue
        place = (folder / name).resolve()
        if not place.is_relative_to(folder.resolve()):
            raise SourceError(f"{path} names '{name}', which lies outside of the model's folder")
        if kind not in ("Pooling", "Dense", "Normalize"):
            raise SourceError(f"{path}: olivine exports pooling, dense layers and normalization; this model has {kind}")
        modules.append(Module(kind, place))
    return tuple(modules) if any(module.kind == "Pooling" for module in modules) else ()


def module_files(modules: Sequence[Module]) -> list[Path]:
    """Files that decide about what modules compute; those of poolings alone are left to whoever always takes them."""
    dense = [module.folder for module in modules if module.kind == "Dense"]
    return [file for folder in dense for file in (folder / "config.json", folder / _WEIGHTS) if file.is_file()]


def sentence_head(folder: Path) -> Head | None:
    """Read how a sentence transformer pools the hidden states of its encoder; None for another model.

    Raises:
        SourceError: when a module does what is not exported.
    """
    steps = [_step(module) for module in sentence_modules(folder)]
    if not steps:
        return None

    def head(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        for step in steps:
            hidden = step(hidden, mask)
        return hidden

    return head


def _step(module: Module) -> Head:
    import torch

    if module.kind == "Normalize":
        return lambda values, _: torch.nn.functional.normalize(values, dim=-1)
    place = module.folder / "config.json"
    config = json.loads(place.read_text(encoding="utf-8"))
    return _pooling(config, place) if module.kind == "Pooling" else _dense(config, module.folder)


def _pooling(config: dict[str, Any], place: Path) -> Head:
    modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
    modes = modes or [str(config.get("pooling_mode"))]
    pooling = _POOLINGS.get(modes[0]) if len(modes) == 1 else None
    if pooling is None:
        raise SourceError(f"{place}: olivine exports mean and first-token pooling; this model has {', '.join(modes)}")
    if pooling == "cls":
        return lambda hidden, _: hidden[:, 0]

    def mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1e-9)

    return mean


def _dense(config: dict[str, Any], folder: Path) -> Head:
    import torch
    from safetensors.torch import load_file

    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if activation not in _ACTIVATIONS:
        raise SourceError(f"{folder}: olivine exports dense layers with {', '.join(_ACTIVATIONS)}, not {activation}")
    if not (folder / _WEIGHTS).is_file():
        raise SourceError(f"{folder}: the dense layer has no {_WEIGHTS}; save the model again with save_pretrained")
    layer = torch.nn.Linear(config["in_features"], config["out_features"], bias=bool(config.get("bias", True)))
    weights = {name.removeprefix("linear."): value.float() for name, value in load_file(folder / _WEIGHTS).items()}
    try:
        layer.load_state_dict(weights)
    except RuntimeError as error:  # names or shapes that are not the layer's
        raise SourceError(f"{folder}: its weights are not those of the dense layer: {error}") from error
    act = getattr(torch.nn, activation)()
    layer.requires_grad_(False)
    return lambda values, _: act(layer(values))
