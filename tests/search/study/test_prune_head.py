"""``prune_head`` through a whole study and every command that takes its export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import tiny_config, tiny_yaml, write_text

from olivine.evaluators.quality.unpruned import GRAPH
from olivine.passes.transforms.prune_head import is_pruned
from olivine.search.cli.main import main
from olivine.search.report.folder_warnings import head_warnings
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import base_choice

pytestmark = pytest.mark.usefixtures("olivine_cache")
SPACE = {"precision": "int8", "block_size": [16, 32], "prune_head": True}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, text: Path) -> StudyDir:
    """A finished study of pruned candidates; do not write into it."""
    root = tmp_path_factory.mktemp("pruned")
    changes: dict[str, Any] = {"space": SPACE, "stop": {"trials": 2}}
    (root / "tiny.yaml").write_text(yaml.safe_dump(tiny_yaml(tiny_llama, text, **changes)))
    assert main(["run", str(root / "tiny.yaml"), "--out", str(root / "study")]) == 0
    return StudyDir.open(root / "study")


def test_the_base_takes_a_fixed_value_over(tiny_llama: Path, text: Path) -> None:
    assert base_choice(tiny_config(tiny_llama, text, space=SPACE))["prune_head"] is True
    assert base_choice(tiny_config(tiny_llama, text))["prune_head"] is False


def test_base_and_candidates_are_pruned_and_scored_by_their_twins(study: StudyDir) -> None:
    records = study.trials()
    assert [(record.number, record.state) for record in records] == [(0, "complete"), (1, "complete"), (2, "complete")]
    for record in records:
        assert record.recipe.steps[-1].name == "prune_head"
        assert record.metrics["perplexity"].protocol["graph"] == GRAPH
        assert record.value("perplexity") > 1
    assert records[0].value("kl_divergence") == 0
    assert all(record.value("kl_divergence") > 0 for record in records[1:])


def test_the_export_is_pruned_rebuilds_and_works_in_every_command(
    study: StudyDir, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = study.best_path
    manifest = json.loads((best / "olivine.json").read_text())
    assert is_pruned(best)
    assert main(["verify", str(best)]) == 0
    words = manifest["rebuild"].replace("DIR", str(tmp_path / "again")).split()
    assert "prune_head=true" in words
    assert main(words[1:]) == 0
    assert json.loads((tmp_path / "again" / "olivine.json").read_text())["files"] == manifest["files"]

    plain = words[1:]
    plain[plain.index("prune_head=true")] = "prune_head=false"
    plain[plain.index(str(tmp_path / "again"))] = str(tmp_path / "plain")
    assert main(plain) == 0
    scored = ["--text", str(text), "--windows", "3", "--window-tokens", "24", "--json", str(tmp_path / "eval.json")]
    assert main(["eval", str(best), "--reference", str(tmp_path / "plain"), *scored]) == 0
    found = json.loads((tmp_path / "eval.json").read_text())[str(best)]
    assert found["perplexity_ratio"]["value"] == pytest.approx(1.0, abs=1e-5)
    assert found["kl_divergence"]["value"] == pytest.approx(0.0, abs=1e-5)

    timed = ["--prompt-tokens", "8", "--new-tokens", "3", "--seconds", "0.2", "--rounds", "8"]
    assert main(["bench", str(best), "--reference", str(tmp_path / "plain"), *timed]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "prefill speedup is one of pruning as well" in said
    # Nothing that was made to score them is left beside the models.
    assert not [*best.parent.glob(".unpruned*"), *tmp_path.glob(".unpruned*")]


def test_like_beside_like_is_no_warning() -> None:
    from olivine.evaluators.measurement import Measurement

    both = {name: [Measurement.exact("tpot_speedup", "ratio", 1.0, pruned_head=True)] for name in "ab"}
    assert head_warnings(both, None) == []
