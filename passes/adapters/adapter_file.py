"""Adapter files of ONNX Runtime (``.onnx_adapter``): the factors of an adapter, by the names of a graph's inputs.

Format: https://onnxruntime.ai/docs/genai/reference/adapter.html. A projection that the exporter has merged takes the
factors of all its parts side by side: ``A`` holds their columns, and ``B`` has each part's rows in the columns of its
own output features, zeros elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from olivine.passes.adapters.decoder_layers import decoder_modules, layer_path
from olivine.passes.adapters.peft_folder import Factors
from olivine.passes.adapters.slots import DOWN, UP, Place
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.learn.merged_layers import Piece, pieces

#: Folder below an exported one, and the ending of each file in it; its stem is the adapter's name.
FOLDER, SUFFIX = "adapters", ".onnx_adapter"


def adapter_path(folder: Path, name: str) -> Path:
    """The file of an adapter in an exported folder."""
    return folder / FOLDER / f"{name}{SUFFIX}"


def adapter_names(folder: Path) -> list[str]:
    """Names of the adapters of an exported folder, in alphabetical order."""
    return sorted(path.name.removesuffix(SUFFIX) for path in (folder / FOLDER).glob(f"*{SUFFIX}"))


def named_adapter(folder: Path, name: str) -> Path:
    """The file of an adapter that somebody asks for.

    Raises:
        UsageError: naming those that there are.
    """
    names = adapter_names(folder)
    if name in names:
        return adapter_path(folder, name)
    if not names:
        raise UsageError(f"{folder} has no adapters; 'olivine export ... --adapter {name}=DIR' adds some")
    raise UsageError(f"{folder} has no adapter '{name}'. {did_you_mean(name, names)}")


def graph_factors(
    factors: Mapping[str, Factors], shapes: Mapping[str, tuple[int, ...]], found: Mapping[str, Place], name: str
) -> dict[str, Factors]:
    """The factors of each place of a graph that an adapter adds to.

    Args:
        factors: of each module of the checkpoint, as the graph's weights are turned.
        shapes: module -> shape of its weight.
        found: path of each place of the graph.
        name: of the adapter.

    Raises:
        UsageError: for a module of which the graph has no layer.
    """
    own = {path: shapes[modules[0]][0] for path, modules in decoder_modules(shapes).items()}
    other = {path: place.outputs for path, place in found.items()}
    parts: dict[str, list[tuple[Factors, Piece]]] = {}
    for module, added in factors.items():
        path = layer_path(module)
        assert path is not None  # reading refuses the others
        where = pieces(path, own, other)
        if not where or any(found[piece.path].inputs != len(added.down) for piece in where):
            raise UsageError(
                f"adapter '{name}': the exported graph has no linear layer for '{module}'. Merge it instead"
            )
        start = 0
        for piece in where:
            stop = start + piece.stop - piece.start
            parts.setdefault(piece.path, []).append((Factors(added.down, added.up[:, start:stop]), piece))
            start = stop
    return {path: _side_by_side(parts[path], found[path].outputs) for path in found if path in parts}


def write_adapter(factors: Mapping[str, Factors], found: Mapping[str, Place], to: Path) -> None:
    """Write the factors of each place, in the type of the graph, as a file that ONNX Runtime loads."""
    import onnxruntime as ort

    parameters = {}
    for path, added in factors.items():
        dtype = found[path].dtype
        for end, array in ((DOWN, added.down), (UP, added.up)):
            plain = np.ascontiguousarray(array.astype(dtype.numpy()))
            parameters[path + end] = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(plain, int(dtype))
    file = ort.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(parameters)
    to.parent.mkdir(parents=True, exist_ok=True)
    file.export_adapter(str(to.resolve()))


def _side_by_side(parts: list[tuple[Factors, Piece]], outputs: int) -> Factors:
    """The factors of parts of a merged projection as those of the whole."""
    down = np.concatenate([factors.down for factors, _ in parts], axis=1)
    up = np.zeros((down.shape[1], outputs), np.float32)
    row = 0
    for factors, piece in parts:
        rank = len(factors.up)
        up[row : row + rank, piece.start : piece.stop] = factors.up
        row += rank
    return Factors(down, up)
