"""``olivine import-olive``: every shape of workflow gives a valid study that means the same, or says why it can't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from olive_workflows import REFUSED, SHAPES, TUTORIAL

from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.config.load import load_config
from olivine.search.planning.olive.convert import Imported, convert, import_workflow
from olivine.search.planning.olive.workflow import normalized


def imported(name: str) -> Imported:
    return convert(normalized(SHAPES[name]), name)


def space(name: str) -> dict[str, Any]:
    return dict(imported(name).raw["space"])


def lost(name: str) -> str:
    return "\n".join(f"{place}: {why}" for place, why in imported(name).lost)


def test_there_are_shapes_enough() -> None:
    assert len(SHAPES) >= 21


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_becomes_a_study_that_olivine_reads(name: str, tmp_path: Path) -> None:
    workflow, study = tmp_path / "workflow.json", tmp_path / "study.yaml"
    workflow.write_text(json.dumps(SHAPES[name]))
    assert main(["import-olive", str(workflow), "--to", str(study)]) == 0
    config = load_config(study)
    assert config.search_space().domains
    assert load_config(study, {"seed": "1"}).seed == 1
    for place, _ in imported(name).lost:
        assert f"#   {place}: " in study.read_text()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_causal_language_model_is_refused_with_the_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workflow, reason = REFUSED[name]
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(workflow))
    assert main(["import-olive", str(path), "--to", str(tmp_path / "study.yaml")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "study.yaml").exists()


def test_the_tutorial_means_the_same_here() -> None:
    found = imported("tutorial")
    assert found.raw["model"] == "microsoft/phi-2"
    assert found.raw["space"] == {
        "precision": "int4",
        "fusion_level": ["none", "qkv", "full"],
        "algorithm": "rtn",
        "block_size": 32,
    }
    assert found.raw["objectives"] == ["e2e_ms", "perplexity_ratio"]
    assert found.raw["select"]["where"] == ["e2e_speedup >= 1.25", "perplexity_ratio <= 1.05"]
    assert (found.raw["sampler"], found.raw["stop"], found.raw["seed"]) == ({"name": "tpe"}, {"trials": 5}, 3)
    assert (found.raw["cache"], found.out) == ({"folder": "cache"}, "models/phi2")
    assert "clean_cache" in [place for place, _ in found.lost]
    assert "passes.optimize (OrtTransformersOptimization).opt_level" in [place for place, _ in found.lost]


def test_nested_and_flat_files_give_the_same_study() -> None:
    old = TUTORIAL
    engine = dict(old["engine"])
    strategy = dict(engine.pop("search_strategy"))
    strategy |= {"sampler": strategy.pop("search_algorithm"), **strategy.pop("search_algorithm_config")}
    strategy["max_samples"] = strategy.pop("num_samples")
    flat = {
        "input_model": {"type": "HfModel", "model_path": "microsoft/phi-2", "task": "text-generation"},
        "systems": {"local_system": {"type": "LocalSystem", **old["systems"]["local_system"]["config"]}},
        "evaluators": old["evaluators"],
        "passes": {n: {"type": one["type"], **one["config"]} for n, one in old["passes"].items()},
        "search_strategy": strategy,
        **engine,
    }
    assert convert(normalized(flat), "x").raw == convert(normalized(old), "x").raw


def test_alternatives_and_flows_are_measured_first_and_searched_together() -> None:
    flows = imported("flows").raw
    assert flows["space"]["precision"] == ["int4", "int8", "fp32"]
    assert [choice["precision"] for choice in flows["enqueue"]] == ["int4", "int8", "fp32"]
    assert flows["stop"] == {"trials": 3}
    assert "zip" not in str(flows).lower()
    assert space("alternatives")["algorithm"] == ["rtn", "k_quant"]
    assert "HQQ is no algorithm here" in lost("alternatives")


def test_values_to_search_are_olives_own_or_those_that_are_listed() -> None:
    assert space("searchable-values")["block_size"] == [16, 32, 64, 128]
    assert space("searchable-values")["symmetric"] == [True, False]
    assert space("listed-values")["block_size"] == [16, 64]
    assert "100 is no value of block_size" in lost("listed-values")
    assert space("gptq-searched")["precision"] == ["int8", "int4"]
    assert imported("gptq-searched").raw["stop"] == {"trials": 30}


def test_quantizers_become_precision_algorithm_and_block_size() -> None:
    assert space("selective-mixed")["precision"] == "mixed"
    assert space("selective-mixed")["int8_share"] == 0.35
    assert (space("quarot-gptq")["rotate"], space("quarot-gptq")["algorithm"]) == (True, "gptq")
    assert space("static-int8")["activations"] == "int8"
    assert "static ranges" in lost("static-int8")
    assert "AWQ is no algorithm here" in lost("awq")
    assert space("genai-folder")["lm_head"] == "fp32"
    assert space("extra-options")["embedding"] == "int4"
    assert space("perf-tuning")["threads"] == [2, 4, 8]
    assert "fine-tuning" in lost("qlora")


def test_systems_become_a_provider() -> None:
    assert space("cuda-int4")["provider"] == "cuda"
    assert space("python-environment") == {"provider": "cuda", "precision": "fp16"}
    assert space("dml")["provider"] == "dml"
    assert space("openvino")["provider"] == "openvino"
    assert "provider" not in space("vitis-only")
    assert "VitisAIExecutionProvider" in lost("vitis-only")
    assert space("fp16-on-cpu")["precision"] == "fp32"
    assert "precision fp16 does not run on cpu" in lost("fp16-on-cpu")


def test_metrics_goals_and_text_become_objectives_conditions_and_text() -> None:
    found = imported("metrics").raw
    assert found["objectives"] == ["decode_tok_s", "perplexity_ratio", "model_bytes"]
    assert found["select"]["metric"] == "decode_tok_s"
    assert imported("old-metric").raw["objectives"] == ["ttft_ms", "perplexity_ratio"]
    assert "user_config" in lost("old-metric")
    assert "mmlu of lm-eval as a goal" in lost("selective-mixed")
    assert imported("selective-mixed").raw["evaluation"]["lm_eval"] == {"tasks": ["mmlu"]}
    text = imported("metrics").raw["evaluation"]["text"]
    assert text == {"dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "split": "train", "column": "page"}


def test_without_a_search_one_candidate_is_built_and_nothing_keeps_it_from_being_exported() -> None:
    found = imported("flat-int4").raw
    assert found["stop"] == {"trials": 1}
    assert "where" not in found["select"]


def test_nothing_is_lost_without_a_word() -> None:
    said = lost("strange-values")
    for word in ("no_such_key", "BrandNewPass", "'<place_holder>'", "7 is no value", "3 is no value"):
        assert word in said
    assert "adapters/mine" in lost("local-folder")
    assert "Azure" not in lost("local-folder")


def test_without_a_target_the_yaml_alone_goes_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps(TUTORIAL))
    assert main(["import-olive", str(path)]) == 0
    captured = capsys.readouterr()
    assert yaml.safe_load(captured.out)["model"] == "microsoft/phi-2"
    assert "no counterpart: clean_cache" in captured.err


def test_no_word_of_a_workflow_leaves_its_comment() -> None:
    workflow = normalized({**TUTORIAL, "a\nmodel: evil/one #": 1})
    found = convert(workflow, "x")
    text = found.to_yaml("w.json\nseed: 9")
    assert yaml.safe_load(text) == found.raw
    assert "a model: evil/one #: olivine knows no such key" in text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_how_a_workflow_is_encoded(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "workflow.json"
    path.write_text(json.dumps({"input_model": {"type": "HfModel", "model_path": "m"}}), encoding=encoding)
    assert import_workflow(path).raw["model"] == "m"


def test_files_that_are_no_workflow_say_so(tmp_path: Path) -> None:
    path = tmp_path / "no.json"
    path.write_text("{}")
    assert main(["import-olive", str(path)]) == 2
    with pytest.raises(UsageError, match="no causal language model"):
        convert(normalized(REFUSED["bert"][0]), "bert")
