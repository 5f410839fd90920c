"""Dequantize: a checkpoint of codes -> a float32 checkpoint, with the codes beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from olivine.passes.errors import SourceError
from olivine.passes.sources.codes.coded_weight import FOLDER, CodedWeight, code_file, layer_path
from olivine.passes.sources.codes.layouts import MARKS, PARTS, WrongCodes, decode
from olivine.passes.sources.codes.scheme import Scheme
from olivine.passes.sources.weights.safetensors_header import read_header
from olivine.passes.store.safetensors_stream import INDEX, Planned, write_safetensors

#: Tensors of a quantized layer that are no weights: ranges of its activations and of the cache.
_RANGES = (
    "input_scale",
    "input_zero_point",
    "output_scale",
    "output_zero_point",
    "k_scale",
    "v_scale",
    "input_global_scale",
)
_INTEGERS = ("I8", "U8", "I16", "I32", "I64")


@dataclass(frozen=True)
class CodedFiles:
    """The weight files of a checkpoint of codes.

    Attributes:
        scheme: of its config.json.
        files: tensor name -> the file that holds it.
        headers: tensor name -> its type and shape.
        modules: names of the layers that are coded.
    """

    scheme: Scheme
    files: Mapping[str, Path]
    headers: Mapping[str, Mapping[str, Any]]
    modules: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, scheme: Scheme) -> CodedFiles:
        """Read the headers of a folder.

        Raises:
            SourceError: when no layer is coded, or tensors of one are missing or of a type that is no code.
        """
        files: dict[str, Path] = {}
        headers: dict[str, Mapping[str, Any]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            for name, about in read_header(path).items():
                files[name], headers[name] = path, about
        mark = f".{MARKS[scheme.layout]}"
        modules = tuple(sorted(name.removesuffix(mark) for name in files if name.endswith(mark)))
        if not modules:
            raise SourceError(f"{folder}: config.json states {scheme.words}, but no tensor ends with '{mark}'")
        for name in headers:
            module, _, ending = name.rpartition(".")
            lone = ending in ("qweight", "qzeros", "weight_packed") and module not in modules
            if lone or (ending == "weight" and headers[name]["dtype"] in _INTEGERS and module not in modules):
                raise SourceError(f"{files[name]}: {name} is of another layout than {scheme.words}")
        return cls(scheme, files, headers, modules)

    def float_bytes(self) -> int:
        """Bytes of the float32 weights that the checkpoint stands for."""
        coded = {f"{module}.{part}" for module in self.modules for part in PARTS[self.scheme.layout]}
        plain = sum(_count(about) for name, about in self.headers.items() if name not in coded)
        return 4 * (plain + sum(self._coded_count(module) for module in self.modules))

    def _coded_count(self, module: str) -> int:
        about = self.headers[f"{module}.{PARTS[self.scheme.layout][0]}"]
        if self.scheme.layout == "int":
            return _count(about)
        return _count(about) * 32 // (self.scheme.bits or 4)

    def coded(self, module: str) -> CodedWeight:
        """The codes of a layer.

        Raises:
            SourceError: naming file and tensor, where they do not fit each other.
        """
        names = {part: f"{module}.{part}" for part in PARTS[self.scheme.layout]}
        where = self.files[f"{module}.{MARKS[self.scheme.layout]}"]
        tensors = {part: self.array(name) for part, name in names.items() if name in self.files}
        try:
            weight = decode(self.scheme.layout, tensors, self.scheme.bits)
        except WrongCodes as error:
            raise SourceError(f"{where}: {module}.{error}") from error
        stated = self.scheme.group_size
        if self.scheme.layout in ("awq", "gptq", "gptq_v2") and stated and weight.group_size != stated:
            k = weight.codes.shape[1]
            raise SourceError(
                f"{where}: {module}.scales has {k // weight.group_size} groups for {k} inputs, "
                f"and config.json states a group size of {stated}"
            )
        return weight

    def array(self, name: str) -> np.ndarray:
        """A tensor; floats as float32."""
        from safetensors import safe_open

        with safe_open(self.files[name], framework="pt") as file:
            tensor = file.get_tensor(name)
        array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        return array

    def write(self, to: Path) -> None:
        """Write float32 weights and the codes to the folder ``to``, one layer at a time; its config.json is there.

        Raises:
            SourceError: as :meth:`coded` does.
        """
        (to / FOLDER).mkdir()
        added = self._added_biases(to)
        paths = sorted(set(self.files.values()))
        shards = {path: [p for p in self._planned(path, to) if p.name not in added] for path in paths}
        index: dict[str, str] = {}
        total, several = 0, len(shards) > 1
        for number, tensors in enumerate(shards.values(), 1):
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors" if several else "model.safetensors"
            total += write_safetensors(to / name, tensors)
            index |= {tensor.name: name for tensor in tensors}
        if several:
            about = {"metadata": {"total_size": total}, "weight_map": dict(sorted(index.items()))}
            (to / INDEX).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def _added_biases(self, to: Path) -> frozenset[str]:
        """Biases of zeros that AutoGPTQ gives layers whose architecture has none; with code of its own none is told."""
        biases = [name for module in self.modules if (name := f"{module}.bias") in self.files]
        zeros = frozenset(name for name in biases if not self.array(name).any())
        if not zeros or any(to.glob("*.py")):
            return frozenset()
        return zeros - _parameters(to)

    def _planned(self, path: Path, to: Path) -> Iterator[Planned]:
        """The tensors that a file of the float checkpoint has: a coded layer stands where its mark does."""
        mark, modules = MARKS[self.scheme.layout], set(self.modules)
        for name in sorted(name for name, file in self.files.items() if file == path):
            module, _, ending = name.rpartition(".")
            if module in modules and ending == mark:
                yield Planned(f"{module}.weight", self._shape(module), partial(self._write_codes, module, to))
            elif not (module in modules and ending in PARTS[self.scheme.layout]) and ending not in _RANGES:
                yield Planned(name, tuple(self.headers[name]["shape"]), partial(self.array, name))

    def _shape(self, module: str) -> tuple[int, int]:
        """(N, K) of a layer; its codes are looked at where headers do not tell it."""
        n, k = self.coded(module).codes.shape
        return n, k

    def _write_codes(self, module: str, to: Path) -> np.ndarray:
        weight = self.coded(module)
        if (path := layer_path(module)) is not None:
            weight.save(to / FOLDER / code_file(path))
        return weight.dequantize()


def write_float_config(config: Mapping[str, Any], to: Path) -> None:
    """Write the config.json of the float checkpoint to the folder ``to``."""
    dropped = ("quantization_config", "compression_config", "torch_dtype")
    plain = {name: value for name, value in config.items() if name not in dropped} | {"dtype": "float32"}
    (to / "config.json").write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def _parameters(checkpoint: Path) -> frozenset[str]:
    """Names of the weights that transformers' model of a config.json has, none of them made."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    with torch.device("meta"):
        return frozenset(AutoModelForCausalLM.from_config(config).state_dict())


def _count(about: Mapping[str, Any]) -> int:
    count = 1
    for size in about["shape"]:
        count *= int(size)
    return count
