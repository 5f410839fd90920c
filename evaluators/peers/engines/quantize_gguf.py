"""Quantize a float GGUF file by llama.cpp's library, as ``llama-quantize --imatrix`` does.

LLAMA_CPP_LIB_PATH=FOLDER python quantize_gguf.py FLOAT.gguf --bindings FOLDER --matrix FILE.npz --type Q4_K_M --to FILE
"""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path
from typing import Any

import numpy as np
from llama import bindings

THREADS = 2


def matrix(api: Any, file: Path) -> Any:
    """The importance matrix as the library takes it, ended by an entry without a name."""
    with np.load(file) as stored:
        values = {name: np.ascontiguousarray(stored[name], np.float32) for name in stored.files}
    entries = (api.llama_model_imatrix_data * (len(values) + 1))()
    for entry, (name, data) in zip(entries, values.items(), strict=False):
        entry.name, entry.size = name.encode(), data.size
        entry.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    entries.kept = values  # the memory that the entries point to
    return entries


def main() -> None:
    """Write one file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("source")
    parser.add_argument("--bindings", required=True)
    parser.add_argument("--matrix", type=Path, required=True)
    parser.add_argument("--type", required=True)
    parser.add_argument("--to", required=True)
    options = parser.parse_args()
    api = bindings(options.bindings)
    api.llama_backend_init()
    settings = api.llama_model_quantize_default_params()
    settings.nthread = THREADS
    settings.ftype = getattr(api, f"LLAMA_FTYPE_MOSTLY_{options.type}")
    learned = matrix(api, options.matrix)
    settings.imatrix = learned
    if api.llama_model_quantize(options.source.encode(), options.to.encode(), ctypes.byref(settings)) != 0:
        raise SystemExit(f"llama.cpp does not quantize to {options.type}")


if __name__ == "__main__":
    main()
