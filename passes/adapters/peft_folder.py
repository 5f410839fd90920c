"""A LoRA adapter as PEFT saves it: ``adapter_config.json`` and ``adapter_model.safetensors``.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685). A layer ``y = W x`` becomes
``y = W x + s B (A x)`` with ``A`` [rank, inputs], ``B`` [outputs, rank] and ``s = alpha / rank``, or
``alpha / sqrt(rank)`` for rank-stabilized LoRA (arXiv 2312.03732). What adds anything else than such products to a
model (DoRA, trained biases, embeddings or whole modules) is refused: its place is in the checkpoint.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import SourceError, UsageError, did_you_mean
from olivine.passes.sources.json_file import read_json
from olivine.passes.sources.weights.safetensors_header import read_header

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_TENSOR = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"(?:.+\.)?layers\.(\d+)\.(?:.+\.)?(\w+)")
#: Field of the config -> what its values other than false, none and empty mean.
_OTHER_METHODS = {
    "use_dora": "DoRA also scales the columns of each weight",
    "modules_to_save": "whole modules were trained beside it",
    "lora_bias": "its products have biases",
    "trainable_token_indices": "single rows of the embedding were trained beside it",
    "target_parameters": "it adds to parameters that are no linear layers",
    "layer_replication": "it repeats layers of the model",
    "alora_invocation_tokens": "it is active behind certain tokens alone",
    "use_qalora": "it averages what its layers read",
    "use_bdlora": "its matrices are blocks of larger ones",
    "kasa_config": "it scales its ranks by numbers of their own",
    "monteclora_config": "it draws its weights anew",
    "arrow_config": "it chooses among adapters for each token",
    "fan_in_fan_out": "it is of a model whose weights are transposed",
}
#: Starts of ``init_lora_weights`` at which PEFT changes the weights of the base model as well.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")
_MERGE = "Merge it into its checkpoint, and take that as the model."


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
    """

    name: str
    folder: Path
    factors: Mapping[str, Factors]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Ranks that occur, ascending."""
        return tuple(sorted({factors.down.shape[1] for factors in self.factors.values()}))

    @property
    def roles(self) -> tuple[str, ...]:
        """Names of the projections that it adds to, such as ``q_proj``."""
        return tuple(sorted({module.rpartition(".")[2] for module in self.factors}))


def layer_path(module: str) -> str | None:
    """``layers.3/q_proj`` of ``model.layers.3.self_attn.q_proj``; None for a module outside of the layers."""
    parts = _LAYER.fullmatch(module)
    return None if parts is None else f"layers.{parts[1]}/{parts[2]}"


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
    _check_method(config, where)
    sides = _sides(header, where)
    for module, names in sides.items():
        _check_module(module, tuple(header[names[side]]["shape"] for side in "AB"), shapes, where)
    return LoraAdapter(name, folder, _factors(folder, config, sides, where))


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


def _check_method(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is no plain LoRA."""
    method = str(config.get("peft_type"))
    if method != "LORA":
        raise UsageError(f"{where}: it is {method}, not LORA: only LoRA can stand beside a graph. {_MERGE}")
    reasons = [f"{field}: {why}" for field, why in _OTHER_METHODS.items() if config.get(field)]
    if config.get("bias", "none") != "none":
        reasons.append(f"bias {config['bias']}: biases were trained beside it")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        reasons.append(f"init_lora_weights {start}: it belongs to a base whose weights were changed at its start")
    if reasons:
        raise UsageError(f"{where}: it is more than LoRA ({'; '.join(reasons)}). {_MERGE}")


def _sides(header: Mapping[str, Any], where: str) -> dict[str, dict[str, str]]:
    """Module -> side ``A`` and ``B`` -> name of the tensor."""
    sides: dict[str, dict[str, str]] = {}
    for name in sorted(header):
        parts = _TENSOR.fullmatch(name.removeprefix(_PREFIX))
        if parts is None:
            raise UsageError(f"{where}: tensor '{name}' is no matrix of LoRA on a linear layer. {_MERGE}")
        sides.setdefault(parts["module"], {})[parts["side"]] = name
    if not sides:
        raise UsageError(f"{where}: {WEIGHTS} holds no tensor")
    for module, names in sides.items():
        if len(names) != 2:
            raise UsageError(f"{where}: '{module}' has lora_{next(iter(names))} alone; it takes lora_A and lora_B")
    return sides


def _check_module(module: str, found: tuple[list[int], ...], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Refuse a module that the model does not have, or has in another shape."""
    if module not in shapes:
        near = did_you_mean(module, [name for name in shapes if name.rpartition(".")[2] == module.rpartition(".")[2]])
        hint = near.partition("Available")[0].strip()
        raise UsageError(f"{where} is an adapter of another model: this one has no '{module}'. {hint}".rstrip())
    if layer_path(module) is None:
        raise UsageError(f"{where} adds to '{module}', which lies outside of the decoder's layers. {_MERGE}")
    down, up = found
    outputs, inputs = shapes[module]
    if len(down) != 2 or len(up) != 2 or down[0] != up[1] or down[0] < 1:
        raise UsageError(f"{where}: '{module}' has lora_A {down} and lora_B {up}, which are no product of two matrices")
    if (up[0], down[1]) != (outputs, inputs):
        raise UsageError(
            f"{where} is an adapter of another model: it adds {up[0]} x {down[1]} to '{module}', which is "
            f"{outputs} x {inputs} here"
        )


def _factors(
    folder: Path, config: Mapping[str, Any], sides: Mapping[str, Mapping[str, str]], where: str
) -> dict[str, Factors]:
    from safetensors import safe_open

    found = {}
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        for module, names in sides.items():
            down, up = (np.array(file.get_tensor(names[side]).float().numpy()) for side in "AB")
            if not (np.isfinite(down).all() and np.isfinite(up).all()):
                raise UsageError(f"{where}: '{module}' has numbers that are not finite")
            scale = np.float32(_scale(config, module, len(down), where))
            found[module] = Factors(np.ascontiguousarray(down.T), np.ascontiguousarray(up.T * scale))
    return found


def _scale(config: Mapping[str, Any], module: str, rank: int, where: str) -> float:
    """The factor of a module's product; patterns stand for ends of names, as PEFT reads them."""
    alphas = config.get("alpha_pattern") or {}
    pattern = next((key for key in alphas if re.fullmatch(rf"(.*\.)?({key})", module)), None)
    alpha = config.get("lora_alpha") if pattern is None else alphas[pattern]
    if not isinstance(alpha, int | float) or isinstance(alpha, bool):
        raise UsageError(f"{where}: {CONFIG} has the lora_alpha {alpha!r}, which is no number")
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
