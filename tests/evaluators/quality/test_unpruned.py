"""Quality of models with a pruned head, beside bases with and without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
import pytest

from olivine.evaluators.data.windows import Window
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.quality.unpruned import GRAPH, run_quality
from olivine.passes.graph import save_wiring
from olivine.passes.transforms.prune_head import PruneHead

OpenProcess = Callable[..., ModelProcess]
WINDOWS = tuple(Window(tuple((seed * 7 + n * 3) % 300 for n in range(12)), 11, 30) for seed in range(3))


@pytest.fixture(scope="module")
def pruned(tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``tiny_onnx`` with a pruned head."""
    folder = tmp_path_factory.mktemp("twin") / "pruned"
    model = ir.load(tiny_onnx / "model.onnx")
    PruneHead().rewire(model)
    save_wiring(model, tiny_onnx, "model.onnx", folder)
    return folder


@pytest.mark.parametrize("pruned_base", [False, True])
def test_a_pruned_candidate_has_the_quality_of_its_twin(
    pruned_base: bool, pruned: Path, tiny_onnx: Path, open_process: OpenProcess, tmp_path: Path
) -> None:
    base = open_process(pruned if pruned_base else tiny_onnx)
    measured = run_quality(TextQuality(WINDOWS, tmp_path, "base"), open_process(pruned), base).measurements
    values = {m.metric: m.value for m in measured}
    assert values["perplexity_ratio"] == pytest.approx(1.0, abs=1e-6)
    assert values["kl_divergence"] == pytest.approx(0.0, abs=1e-6)
    assert values["top1_agreement"] == 1.0
    assert all(m.protocol["graph"] == GRAPH for m in measured)
    alone = open_process(tiny_onnx)
    plain = TextQuality(WINDOWS, tmp_path, "plain").run(alone, alone).measurements
    assert values["perplexity"] == pytest.approx(plain[0].value, rel=1e-6)
    assert "graph" not in plain[0].protocol


def test_a_pruned_base_is_exactly_one_against_itself(pruned: Path, open_process: OpenProcess, tmp_path: Path) -> None:
    base = open_process(pruned)
    values = {m.metric: m.value for m in run_quality(TextQuality(WINDOWS, tmp_path, "b"), base, base).measurements}
    assert (values["perplexity_ratio"], values["kl_divergence"], values["top1_agreement"]) == (1.0, 0.0, 1.0)


def test_scoring_the_pruned_graph_itself_names_the_cure(
    pruned: Path, open_process: OpenProcess, tmp_path: Path
) -> None:
    process = open_process(pruned)
    with pytest.raises(ModelProcessFailed, match=r"logits for 1 of 12 positions.*unpruned twin"):
        process.reference([(WINDOWS[0].tokens, 11)], tmp_path / "r.npz", 4)
