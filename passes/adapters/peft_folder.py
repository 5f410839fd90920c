"""A LoRA adapter as PEFT saves it: ``adapter_config.json`` and ``adapter_model.safetensors``.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685). A layer ``y = W x`` becomes
``y = W x + s B (A x)`` with ``A`` [rank, inputs], ``B`` [outputs, rank] and ``s = alpha / rank``, or
``alpha / sqrt(rank)`` for rank-stabilized LoRA (arXiv 2312.03732).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.adapters.decoder_layers import decoder_modules, layer_path
from olivine.passes.adapters.peft_config import CONFIG, MERGE, PeftConfig
from olivine.passes.errors import SourceError, UsageError, did_you_mean
from olivine.passes.sources.json_file import read_json
from olivine.passes.sources.weights.safetensors_header import read_header

WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Factors:
    """Two matrices whose product an adapter adds to a linear layer: ``x @ down @ up`` for row vectors ``x``.

    Attributes:
        down: float32 [inputs, rank].
        up: float32 [rank, outputs], the scale in it.
    """

    down: np.ndarray
    up: np.ndarray


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter that fits its model.

    Attributes:
        name: as it is selected.
        folder: that it was read from.
        factors: name of each module of the model, such as ``model.layers.3.self_attn.q_proj`` -> its factors.
        base: name or path of the model that it was trained on, as its config says; empty where that names none.
    """

    name: str
    folder: Path
    factors: Mapping[str, Factors]
    base: str = ""

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that occur, ascending."""
        return tuple(sorted({factors.down.shape[1] for factors in self.factors.values()}))

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the projections that it adds to, such as ``q_proj``."""
        return tuple(sorted({module.rpartition(".")[2] for module in self.factors}))


def read_adapter(name: str, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> LoraAdapter:
    """Read an adapter, and check that it is LoRA and of this model.

    Args:
        name: as it is selected.
        folder: as PEFT's ``save_pretrained`` writes it.
        shapes: module of the model -> shape of its weight, [outputs, inputs] for a linear layer.

    Raises:
        UsageError: naming what is missing, no LoRA, or not of this model.
    """
    where = f"--adapter {name}={folder}"
    _check_files(folder, where)
    try:
        config = read_json(folder / CONFIG, where)
        header = read_header(folder / WEIGHTS)
    except SourceError as error:
        raise UsageError(f"{where}: {error}" if where not in str(error) else str(error)) from None
    about = PeftConfig.of(config, where)
    sides = _sides(header, where)
    decoder = decoder_modules(shapes)
    for module, names in sides.items():
        _check_place(module, shapes, decoder, where)
        _check_shapes(module, tuple(header[names[side]]["shape"] for side in "AB"), shapes[module], where)
    return LoraAdapter(name, folder, _factors(folder, about, sides, where), about.base)


def _check_files(folder: Path, where: str) -> None:
    if not folder.is_dir():
        raise UsageError(f"{where}: there is no such folder")
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if not missing:
        return
    pickled = WEIGHTS in missing and (folder / "adapter_model.bin").is_file()
    hint = "its adapter_model.bin is a pickle, which is not opened: save it again as safetensors" if pickled else ""
    raise UsageError(
        f"{where}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not in it; "
        f"{hint or 'the folder that save_pretrained of PEFT writes is what fits'}"
    )


def _sides(header: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    """Module -> side ``A`` and ``B`` -> name of the tensor."""
    sides: dict[str, dict[str, str]] = {}
    for name in sorted(header):
        parts = _TENSOR.fullmatch(name.removeprefix(_PREFIX))
        if parts is None:
            raise UsageError(f"{where}: tensor '{name}' is no matrix of LoRA on a linear layer. {MERGE}")
        sides.setdefault(parts["module"], {})[parts["side"]] = name
    if not sides:
        raise UsageError(f"{where}: {WEIGHTS} holds no tensor")
    for module, names in sides.items():
        if len(names) != 2:
            raise UsageError(f"{where}: '{module}' has lora_{next(iter(names))} alone; it takes lora_A and lora_B")
    return sides


def _check_place(
    module: str, shapes: Mapping[str, tuple[int, ...]], decoder: Mapping[str, Sequence[str]], where: str
) -> None:
    """Refuse a module that the model does not have, or whose place in the graph is not known."""
    path = layer_path(module)
    if path is None or (module in shapes and module not in decoder.get(path, ())):
        raise UsageError(f"{where} adds to '{module}', which lies outside of the decoder's layers. {MERGE}")
    if module not in shapes:
        near = did_you_mean(module, [name for name in shapes if name.rpartition(".")[2] == module.rpartition(".")[2]])
        hint = near.partition("Available")[0].strip()
        raise UsageError(f"{where} is an adapter of another model: this one has no '{module}'. {hint}".rstrip())
    alike = decoder[path]
    if len(alike) > 1:
        other = next(name for name in alike if name != module)
        raise UsageError(
            f"{where} adds to '{module}', which the exported graph can't tell from {len(alike) - 1} more of its layer "
            f"that end alike, such as '{other}'. {MERGE}"
        )


def _check_shapes(module: str, found: tuple[list[int], ...], shape: tuple[int, ...], where: str) -> None:
    """Refuse matrices that are no product, or one of another shape than their module's."""
    down, up = found
    outputs, inputs = shape
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or down[0] < 1:
        raise UsageError(f"{where}: '{module}' has lora_A {down} and lora_B {up}, which are no product of two matrices")
    if (up[0], down[1]) != (outputs, inputs):
        raise UsageError(
            f"{where} is an adapter of another model: it adds {up[0]} x {down[1]} to '{module}', which is "
            f"{outputs} x {inputs} here"
        )


def _factors(
    folder: Path, config: PeftConfig, sides: Mapping[str, Mapping[str, str]], where: str
) -> dict[str, Factors]:
    from safetensors import safe_open

    found = {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for module, names in sides.items():
            down, up = (np.array(file.get_tensor(names[side]).float().numpy()) for side in "AB")
            if not (np.isfinite(down).all() and np.isfinite(up).all()):
                raise UsageError(f"{where}: '{module}' has numbers that are not finite")
            scale = np.float32(config.scale(module, len(down)))
            found[module] = Factors(np.ascontiguousarray(down.T), np.ascontiguousarray(up.T * scale))
    return found
