from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bigram import bigram_folder

from olivine.evaluators.memory import Memory, model_bytes
from olivine.evaluators.process.client import ModelProcess

OpenProcess = Callable[..., ModelProcess]


def test_memory_is_that_of_the_models_own_process(open_process: OpenProcess, tmp_path: Path) -> None:
    small = open_process(bigram_folder(tmp_path / "small", np.zeros((10, 10), dtype=np.float32)))
    large = open_process(bigram_folder(tmp_path / "large", np.zeros((5000, 5000), dtype=np.float32)))
    measured = [{m.metric: m for m in Memory(4, 2).evaluate(process, process)} for process in (small, large)]
    table = 5000 * 5000 * 4
    assert measured[1]["peak_rss_bytes"].value - measured[0]["peak_rss_bytes"].value > table
    assert measured[1]["model_bytes"].value - measured[0]["model_bytes"].value == pytest.approx(table, abs=2000)
    assert measured[0]["load_ms"].value > 0
    assert measured[0]["peak_rss_bytes"].protocol["fresh"] is True
    assert set(measured[0]) == set(Memory.metrics) - {"gpu_memory_bytes"}, "that is measured on CUDA"


def test_model_bytes_count_external_data_and_no_tokenizer(base_folder: Path, tmp_path: Path) -> None:
    for name in ("genai_config.json", "model.onnx"):
        (tmp_path / name).write_bytes((base_folder / name).read_bytes())
    (tmp_path / "model.onnx.data").write_bytes(b"x" * 1000)
    (tmp_path / "tokenizer.json").write_bytes(b"x" * 77)
    assert model_bytes(tmp_path) == (base_folder / "model.onnx").stat().st_size + 1000


def test_a_peak_read_after_scoring_says_so(open_process: OpenProcess, base_folder: Path, tmp_path: Path) -> None:
    process = open_process(base_folder)
    process.reference([((0, 1, 2), 2)], tmp_path / "r.npz", 2)
    peak = Memory(4, 2).evaluate(process, process)[1]
    assert peak.metric == "peak_rss_bytes"
    assert peak.protocol["fresh"] is False


def test_an_empty_process_has_no_memory_to_measure() -> None:
    with ModelProcess.start() as process, pytest.raises(ValueError, match="load a model"):
        Memory().evaluate(process, process)
