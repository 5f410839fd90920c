from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from olivine.passes.errors import BuildFailed
from olivine.passes.export.check import PACKED_BYTES, check_model


@pytest.fixture
def folder(tiny_onnx: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(tiny_onnx, tmp_path / "model"))


def test_a_working_model_passes(tiny_onnx: Path) -> None:
    check_model(tiny_onnx)


def poison(folder: Path, value: float) -> None:
    """Put ``value`` into the first float weight of the head or the last large one."""
    model = onnx.load(folder / "model.onnx")
    weight = max(
        (w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT), key=lambda w: np.prod(w.dims)
    )
    broken = numpy_helper.to_array(weight).copy()
    broken[:] = value
    weight.CopyFrom(numpy_helper.from_array(broken, weight.name))
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx")


@pytest.mark.parametrize("packed_bytes", [0, PACKED_BYTES])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused(folder: Path, value: float, packed_bytes: int) -> None:
    poison(folder, value)
    with pytest.raises(BuildFailed, match="logits that are not finite"):
        check_model(folder, packed_bytes)


def test_a_poisoned_copy_of_finite_weights_passes(folder: Path) -> None:
    poison(folder, 0.01)
    check_model(folder)


def test_a_graph_with_an_unknown_operator_is_refused(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    next(node for node in model.graph.node if node.op_type == "MatMul").op_type = "NoSuchOperator"
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BuildFailed, match="does not run in ONNX Runtime"):
        check_model(folder)


def test_a_file_that_is_no_graph_is_refused(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"this is no protobuf")
    with pytest.raises(BuildFailed, match="does not run in ONNX Runtime"):
        check_model(folder)


def test_missing_weights_are_refused(folder: Path) -> None:
    (folder / "model.onnx.data").unlink()
    with pytest.raises(BuildFailed, match="does not run in ONNX Runtime"):
        check_model(folder)
