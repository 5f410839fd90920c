"""Speculation through a whole study: timed on answers to real prompts, weighed against the pruned head, exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.search.cli.main import main
from olivine.search.config.load import language_config, load_config
from olivine.search.front_csv import read_front
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import base_choice

pytestmark = pytest.mark.usefixtures("olivine_cache")
PROMPTS = ["the old boat lay there " * n for n in range(1, 8)]
SPACE = {"precision": "int8", "block_size": 16, "prune_head": [True, False], "ngram_size": [0, 2], "chunk_size": 0}


def write_config(root: Path, model: Path, **changes: Any) -> Path:
    (root / "prompts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in PROMPTS))
    scenario = {"context": 250, "new_tokens": 24, "prompts": str(root / "prompts.jsonl")}
    text = write_text(root / "text.txt")
    raw = tiny_yaml(model, text, **{"space": SPACE, "scenario": scenario, "stop": {"trials": 3}, **changes})
    raw["evaluation"]["latency"] = {"max_seconds": 0.2, "half_width": 0.4}
    raw["enqueue"] = [{"precision": "int8", "prune_head": False, "ngram_size": 2}, {"precision": "int8"}]
    (root / "tiny.yaml").write_text(yaml.safe_dump(raw))
    return root / "tiny.yaml"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> StudyDir:
    """A finished study with and without guesses; do not write into it."""
    root = tmp_path_factory.mktemp("speculation")
    config = write_config(root, tiny_llama, select={"by": "objective", "metric": "tokens_per_step"})
    assert main(["plan", str(config)]) == 0
    assert main(["run", str(config), "--out", str(root / "study")]) == 0
    return StudyDir.open(root / "study")


def test_the_search_weighs_guesses_against_the_pruned_head(study: StudyDir) -> None:
    base, guessing, pruned, plain = study.trials()
    assert base.params["prune_head"] is True
    assert (guessing.params["prune_head"], guessing.params["ngram_size"]) == (False, 2)
    assert (pruned.params["prune_head"], plain.params["prune_head"]) == (True, False)
    assert "ngram_size" not in pruned.params
    assert "ngram_size" not in plain.params
    assert all(record.state == "complete" for record in (base, guessing, pruned, plain))


def test_only_what_guesses_is_timed_on_answers_and_all_have_one_metric(study: StudyDir) -> None:
    base, guessing, pruned, plain = study.trials()
    about = guessing.metrics["tpot_ms"].protocol["guesses"]
    assert about["ngram_size"] == 2
    assert 4 <= about["prompts"] <= len(PROMPTS)
    assert guessing.value("tokens_per_step") == pytest.approx(about["tokens_per_step"], abs=1e-3)
    assert guessing.value("tokens_per_step") > 1
    assert guessing.value("decode_tok_s") == pytest.approx(1e3 / guessing.value("tpot_ms"))
    for record in (base, pruned, plain):
        assert record.value("tokens_per_step") == 1
        assert "guesses" not in record.metrics["tpot_ms"].protocol


def test_quality_is_scored_without_guesses_and_the_files_are_shared(study: StudyDir) -> None:
    _, guessing, _, plain = study.trials()
    assert guessing.value("kl_divergence") == plain.value("kl_divergence")
    assert all(step["cached"] for step in plain.passes if step["name"] != "context_length")


def test_the_selected_one_is_exported_with_its_guesses_and_told_of(study: StudyDir) -> None:
    best = study.best_path
    config = json.loads((best / "genai_config.json").read_text())
    assert config["speculative"] == {"ngram_size": 2, "max_draft_tokens": 4}
    card = " ".join((best / "README.md").read_text().split())
    assert "prompts they give" in card
    assert "The numbers above are without it" not in card
    report = (study.root / "report.html").read_text()
    assert "It guesses up to 4 tokens at once from n-grams of 2." in report
    assert all(list(row)[-1] == "tokens_per_step" for row in read_front(study))
    assert main(["verify", str(best)]) == 0


def test_bench_in_a_scenario_of_prompts_tells_what_a_folder_gains(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = study.root.parent / "prompts.jsonl"
    scenario = f"{{context: 250, new_tokens: 24, prompts: {prompts}}}"
    assert main(["bench", str(study.best_path), "--scenario", scenario, "--rounds", "8"]) == 0
    assert "tokens a step" in capsys.readouterr().out


def test_too_few_prompts_are_refused_before_any_work(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, tiny_llama)
    (tmp_path / "prompts.jsonl").write_text('{"text": "a boat"}\n{"text": "a river"}\n')
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    assert "scenario.prompts: 2 prompts; guesses are timed on at least 4" in capsys.readouterr().err
    assert not list((tmp_path / "study").glob("trials/*"))


def test_a_base_is_pruned_where_candidates_may_be(tiny_llama: Path, tmp_path: Path) -> None:
    config = language_config(load_config(write_config(tmp_path, tiny_llama)))
    assert base_choice(config)["prune_head"] is True
    whole = load_config(write_config(tmp_path, tiny_llama, space={**SPACE, "prune_head": False}))
    assert base_choice(language_config(whole))["prune_head"] is False
