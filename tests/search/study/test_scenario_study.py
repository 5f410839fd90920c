"""A scenario through a whole study: measured, exported, told, and refused where it does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.evaluators.scenario.prompts import read_prompts
from olivine.passes.artifact import ModelArtifact
from olivine.search.cli.main import main
from olivine.search.config.load import language_config, load_config
from olivine.search.front_csv import read_front
from olivine.search.samplers.masks import Masks
from olivine.search.study_dir import StudyDir
from olivine.search.workloads import language
from olivine.search.workloads.language import LanguageWorkload

pytestmark = pytest.mark.usefixtures("olivine_cache")
SCENARIO = {"context": 64, "prompt_tokens": 20, "new_tokens": 4, "turns": 3, "turn_tokens": 6}
MEASURED = {"context_bytes", "deployed_rss_bytes", "cpu_ms_per_token"}


def write_yaml(root: Path, model: Path, text: Path, **changes: Any) -> Path:
    raw = tiny_yaml(model, text, **{"space": {"precision": "int8", "block_size": [16, 32]}, **changes})
    raw["evaluation"]["latency"] = {"max_seconds": 0.2, "half_width": 0.4}
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return root / "tiny.yaml"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, text: Path) -> StudyDir:
    """A finished study for a scenario; do not write into it."""
    root = tmp_path_factory.mktemp("scenario")
    goals = {"constraints": ["deployed_rss_bytes <= 2GB"], "stop": {"trials": 2}}
    config = write_yaml(root, tiny_llama, text, scenario=SCENARIO, **goals)
    assert main(["run", str(config), "--out", str(root / "study")]) == 0
    return StudyDir.open(root / "study")


def test_base_and_candidates_are_measured_in_it(study: StudyDir) -> None:
    for record in study.trials():
        assert record.state == "complete"
        assert record.metrics.keys() >= MEASURED
        assert record.metrics["ttft_ms"].protocol["prompt_tokens"] == 20
        assert record.metrics["deployed_rss_bytes"].protocol["scenario"]["context"] == 64
        assert record.params["context"] == 64
    assert study.trials()[0].value("context_bytes") == 2 * 2 * 2 * 16 * 4 * 64


def test_what_can_not_fit_is_written_down(study: StudyDir) -> None:
    memory = Masks.read(study.kernels_path).memory
    assert memory is not None
    (reason,) = study.masked_kernels()
    assert reason.startswith("recipes whose deployed_rss_bytes is predicted above 2 GB by more than 10%")
    for record in study.trials():
        assert memory.memory.predict(record.recipe) == pytest.approx(record.value("deployed_rss_bytes"), rel=0.1)


def test_a_limit_that_no_recipe_can_keep_is_refused_before_anything_is_built(
    tmp_path: Path, tiny_llama: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_yaml(tmp_path, tiny_llama, text, scenario=SCENARIO, constraints=["deployed_rss_bytes <= 20MB"])
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "deployed_rss_bytes <= 20 MB: no recipe of the space can fit. The smallest, block_size 32" in said
    assert not (tmp_path / "study").exists()


def test_its_columns_come_behind_all_others(study: StudyDir) -> None:
    (row, *_) = read_front(study)
    assert list(row)[-4:] == ["e2e_ms", "context_bytes", "deployed_rss_bytes", "cpu_ms_per_token"]
    assert all(float(row[name]) > 0 for name in MEASURED)


def test_the_export_makes_room_for_it_says_so_and_rebuilds(study: StudyDir, tmp_path: Path) -> None:
    best = study.best_path
    assert json.loads((best / "genai_config.json").read_text())["search"]["max_length"] == 64
    card = " ".join((best / "README.md").read_text().split())
    assert "Scenario own: 3 turns, a first prompt of 20 tokens" in card
    assert "genai_config.json makes room for 64 tokens of prompt and answer" in card
    manifest = json.loads((best / "olivine.json").read_text())
    words = manifest["rebuild"].replace("DIR", str(tmp_path / "again")).split()
    assert "context=64" in words
    assert main(words[1:]) == 0
    assert json.loads((tmp_path / "again" / "olivine.json").read_text())["files"] == manifest["files"]


def test_another_scenario_is_another_study(
    study: StudyDir, tiny_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_yaml(tmp_path, tiny_llama, text, scenario={**SCENARIO, "turns": 2})
    assert main(["run", str(config), "--out", str(study.root)]) == 2
    assert "holds a study with another" in capsys.readouterr().err


def test_memory_that_nothing_keeps_drops_candidates_before_they_are_scored(
    study: StudyDir, tiny_llama: Path, text: Path, tmp_path: Path
) -> None:
    least = min(record.value("deployed_rss_bytes") for record in study.trials())
    goals = {"constraints": [f"deployed_rss_bytes <= {round(0.95 * least)}"], "stop": {"trials": 1}}
    config = write_yaml(tmp_path, tiny_llama, text, scenario=SCENARIO, **goals)
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 3
    record = StudyDir.open(tmp_path / "study").trials()[1]
    assert record.state == "infeasible"
    assert record.ladder["step"] == "deployed memory"
    assert "perplexity" not in record.metrics


def test_prompts_of_ones_own_are_timed_and_run(tiny_llama: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("bread\n\nthe old boat lay there\n\nthe price of bread and of the old boat")
    scenario = {"context": 200, "new_tokens": 4, "prompts": str(tmp_path / "prompts.txt")}
    config = write_yaml(tmp_path, tiny_llama, text, scenario=scenario, stop={"trials": 1})
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 0
    metrics = StudyDir.open(tmp_path / "study").trials()[0].metrics
    timed, (longest,) = (
        metrics["ttft_ms"].protocol["prompt_tokens"],
        metrics["deployed_rss_bytes"].protocol["prompts"],
    )
    assert 20 < timed < longest < 200
    assert metrics["peak_rss_bytes"].protocol["prompt_tokens"] == timed


def test_the_kernel_probe_goes_by_the_prompt_that_is_timed(
    tiny_llama: Path, tiny_onnx: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "prompts.txt").write_text("the price of bread and of the old boat")
    scenario = {"context": 200, "new_tokens": 4, "prompts": str(tmp_path / "prompts.txt")}
    config = language_config(load_config(write_yaml(tmp_path, tiny_llama, text, scenario=scenario)))
    workload = LanguageWorkload(config.model_copy(update={"kernel_probe": True}), StudyDir(tmp_path / "study"))
    asked: list[Any] = []
    monkeypatch.setattr(language, "choose_masks", lambda *_, prompt_tokens: asked.append(prompt_tokens))
    probe = workload.kernel_probe(ModelArtifact(tiny_onnx, "tiny", frozenset({"onnx", "float"})), tmp_path)
    assert probe is not None
    probe()
    use = config.use()
    assert use is not None
    assert asked == [len(read_prompts(use, tiny_onnx)[0].ids)]


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"context": 300}, "scenario.context: 300 tokens"),
        ({"context": 200, "prompts": "bad.jsonl"}, "bad.jsonl: line 2: 'text' holds 7, which is no text"),
        ({"context": 40, "new_tokens": 4, "prompts": "long.txt"}, "long.txt: paragraph 1: the prompt has"),
        ({"context": 200, "prompts": "absent.txt"}, "no file"),
    ],
)
def test_what_does_not_fit_is_one_message(
    scenario: dict[str, Any],
    message: str,
    tiny_llama: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n{"text": 7}\n')
    (tmp_path / "long.txt").write_text("the old boat lay there " * 12)
    config = write_yaml(tmp_path, tiny_llama, text, scenario=scenario)
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    assert message in capsys.readouterr().err
