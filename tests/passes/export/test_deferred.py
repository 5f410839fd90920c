from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from olivine.passes.export.deferred import Deferred, DeferredFile, WrittenInPlace, computed


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float32).to(torch.float16)


@pytest.fixture
def file(tmp_path: Path, weight: torch.Tensor) -> DeferredFile:
    save_file({"weight": weight, "bias": torch.arange(6.0)}, tmp_path / "model.safetensors")
    return DeferredFile(tmp_path / "model.safetensors")


def test_what_depends_on_shapes_runs_when_values_are_asked_for(
    file: DeferredFile, weight: torch.Tensor, tmp_path: Path
) -> None:
    lazy = file.get_slice("weight")[...]
    merged = torch.cat([lazy, lazy[:2] + 1], dim=0).reshape(8, 4).T.to(torch.float32)
    first, second = lazy.split([2, 4])
    assert (merged.shape, merged.dtype) == ((4, 8), torch.float32)
    assert (first.shape, second.shape) == ((2, 4), (4, 4))
    later = weight + 1  # nothing was read so far: what is written now is what is computed
    save_file({"weight": later, "bias": torch.zeros(6)}, tmp_path / "model.safetensors")
    expected = torch.cat([later, later[:2] + 1], dim=0).T.to(torch.float32)
    assert torch.equal(torch.from_numpy(merged.numpy(force=True)), expected)
    assert torch.equal(computed(second), later[2:])


def test_results_are_computed_anew_and_not_kept(file: DeferredFile) -> None:
    lazy = file.get_slice("weight") * 2
    assert computed(lazy).data_ptr() != computed(lazy).data_ptr()


def test_a_parameter_of_a_module_stays_deferred(file: DeferredFile, weight: torch.Tensor) -> None:
    linear = torch.nn.Linear(4, 6, bias=False, device="meta")
    linear.weight = torch.nn.Parameter(file.get_tensor("weight"), requires_grad=False)
    assert isinstance(linear.weight, Deferred)
    assert torch.equal(computed(linear.weight), weight)


def test_a_branch_on_a_value_computes_it(file: DeferredFile) -> None:
    assert float(file.get_slice("bias").sum()) == 15.0
    assert bool((file.get_slice("bias") >= 0).all())


def test_writing_in_place_is_refused(file: DeferredFile) -> None:
    with pytest.raises(WrittenInPlace, match="stands for a weight in a file"):
        file.get_slice("weight").add_(1)


def test_bytes_are_those_of_the_values(file: DeferredFile, weight: torch.Tensor) -> None:
    from onnx_ir.tensor_adapters import TorchTensor

    assert TorchTensor(file.get_slice("weight").T).tobytes() == weight.T.contiguous().numpy().tobytes()
