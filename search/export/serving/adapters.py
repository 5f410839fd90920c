"""LoRA adapters of a model folder: ``adapters/NAME.onnx_adapter``, selected by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from olivine.search.export.serving.errors import Unusable

FOLDER, SUFFIX = "adapters", ".onnx_adapter"


def load_adapters(genai: Any, model: Any, folder: Path) -> tuple[Any, tuple[str, ...]]:
    """Load all adapters of a folder.

    Args:
        genai: the module onnxruntime_genai.
        model: of the folder.
        folder: with genai_config.json.

    Returns:
        GenAI's adapters, None where the folder has none; and their names.
    """
    files = sorted((folder / FOLDER).glob(f"*{SUFFIX}"))
    if not files:
        return None, ()
    adapters = genai.Adapters(model)
    names = tuple(file.name.removesuffix(SUFFIX) for file in files)
    for file, name in zip(files, names, strict=True):
        adapters.load(str(file), name)
    return adapters, names


def check_adapter(name: str, names: tuple[str, ...]) -> None:
    """Refuse an adapter that a folder does not have.

    Raises:
        Unusable: naming those that it has.
    """
    if name not in names:
        raise Unusable(f"there is no adapter {name!r} here; this folder has {', '.join(names) or 'none'}")
