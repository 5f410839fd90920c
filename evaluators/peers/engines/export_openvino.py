"""Make OpenVINO's models: optimum-intel exports the float one, NNCF compresses its weights.

    python export_openvino.py float32 CHECKPOINT --samples FILE --to FOLDER
    python export_openvino.py 'int4 g64' FLOAT_FOLDER --samples FILE --to FOLDER

The float folder has the tokenizer that OpenVINO GenAI needs; the others copy it. ``int8`` and ``int4 g64`` are what
``optimum-cli export openvino`` makes with ``--weight-format`` and ``--group-size 64``, since 128 does not divide every
width; ``data-aware`` adds its options ``--awq --scale-estimation`` with a data set, the texts of a JSON file.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
from pieces import pieces

GRAPH = "openvino_model"
MODES = nncf.CompressWeightsMode
AWARE = {"awq": True, "scale_estimation": True}
INT4 = {"mode": MODES.INT4_ASYM, "group_size": 64, "ratio": 1.0}
FORMATS: dict[str, dict[str, Any]] = {
    "int8": {"mode": MODES.INT8_ASYM},
    "int4 g64": INT4,
    "int4 g64 data-aware": {**INT4, **AWARE},
}


def samples(texts: Path, folder: Path) -> list[dict[str, Any]]:
    """Inputs of the float model for pieces of the texts."""
    return [
        {
            "input_ids": piece,
            "attention_mask": np.ones_like(piece),
            "position_ids": np.arange(piece.shape[1])[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        for piece in pieces(texts, folder)
    ]


def export_float(checkpoint: Path, to: Path) -> None:
    """Export the checkpoint in float32, with its tokenizer."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    main_export(
        model_name_or_path=str(checkpoint),
        output=str(to),
        task="text-generation-with-past",
        ov_config=OVConfig(dtype="fp32"),
        convert_tokenizer=True,
    )


def compress(name: str, folder: Path, texts: Path, to: Path) -> None:
    """Write a compressed copy of a float folder."""
    model = ov.Core().read_model(folder / f"{GRAPH}.xml")
    settings = FORMATS[name]
    data = nncf.Dataset(samples(texts, folder)) if "awq" in settings else None
    compressed = nncf.compress_weights(model, dataset=data, **settings)
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(f"{GRAPH}.*"))
    ov.save_model(compressed, to / f"{GRAPH}.xml", compress_to_fp16=False)


def main() -> None:
    """Make one folder."""
    parser = argparse.ArgumentParser()
    parser.add_argument("format")
    parser.add_argument("source", type=Path)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    if options.format in FORMATS:
        compress(options.format, options.source, options.samples, options.to)
    else:
        export_float(options.source, options.to)


if __name__ == "__main__":
    main()
