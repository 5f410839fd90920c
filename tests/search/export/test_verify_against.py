"""``olivine verify --against`` and ``--python``: a folder beside its checkpoint, and under another runtime."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache
from olivine.search.cli.main import main
from olivine.search.export.verify import VerifyFailed
from olivine.search.export.verify_against import verify_against, verify_runtimes


@pytest.fixture
def int8(tiny_llama: Path, tmp_path: Path) -> Path:
    """The tiny Llama in int8, with a pruned head."""
    choice = {"precision": "int8", "algorithm": "rtn", "block_size": 32, "prune_head": True}
    built = build(resolve(str(tiny_llama)), LANGUAGE.compose(choice), Cache(tmp_path / "cache"))
    return Path(shutil.copytree(built.artifact.path, tmp_path / "int8"))


def test_a_float_folder_is_proven_against_its_checkpoint(tiny_onnx: Path, tiny_llama: Path) -> None:
    agreement = verify_against(tiny_onnx, str(tiny_llama))
    assert agreement.largest_difference < 1e-4
    assert agreement.top1_agreement == 1.0


def test_a_float_folder_of_another_checkpoint_fails_with_the_place(
    tiny_onnx: Path, tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    other = make_tiny_checkpoint(tmp_path / "other", seed=1)
    with pytest.raises(VerifyFailed, match=r"is not .*other.*the two part in the embedding"):
        verify_against(tiny_onnx, str(other))


def test_a_quantized_folder_is_measured_and_kept_to_a_stated_loss(int8: Path, tiny_llama: Path) -> None:
    agreement = verify_against(int8, str(tiny_llama), max_kl=0.1)
    assert 1e-7 < agreement.kl_divergence < 0.1
    assert agreement.tokens > 400  # of every position, though its head is pruned
    with pytest.raises(VerifyFailed, match=r"at most 1e-09 are allowed"):
        verify_against(int8, str(tiny_llama), max_kl=1e-9)


def test_a_graph_is_no_checkpoint(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match="--against takes the checkpoint"):
        verify_against(tiny_onnx, str(tiny_onnx))


def test_another_environment_and_the_accuracy_level_are_compared(int8: Path, tiny_onnx: Path) -> None:
    there, exact = verify_runtimes(int8, sys.executable)
    assert there.name.startswith("ONNX Runtime ")
    assert (there.agreement.kl_divergence, there.agreement.top1_agreement) == (0.0, 1.0)
    assert exact.name == "accuracy level 1 instead of 4"
    assert 0 < exact.agreement.kl_divergence < 0.1
    assert verify_runtimes(tiny_onnx, None) == []  # floats have no accuracy level


def test_an_interpreter_that_is_not_there_is_named(int8: Path) -> None:
    with pytest.raises(UsageError, match="There is no interpreter /nowhere"):
        verify_runtimes(int8, "/nowhere")


def test_the_command_says_both(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "built"
    assert main(["build", str(tiny_llama), "--to", str(to), "--set", "precision=int8", "--set", "block_size=32"]) == 0
    assert "the base agrees with its checkpoint: largest difference" in " ".join(capsys.readouterr().out.split())
    assert main(["verify", str(to), "--against", str(tiny_llama), "--python", sys.executable, "--max-kl", "0.1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "KL divergence" in said
    assert "accuracy level 1 instead of 4" in said
