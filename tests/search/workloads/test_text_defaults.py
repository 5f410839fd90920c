"""Texts of new studies, and that studies which were begun without them go on without them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from olivine.evaluators.data.text_source import TextSource
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import SourceError
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import AnyConfig, load_config, parse_config
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.language import LanguageWorkload
from olivine.search.workloads.text_defaults import (
    OWN,
    begin_texts,
    begun_texts,
    reachable_others,
    resume_texts,
    study_texts,
)

OLD = Path(__file__).parents[1] / "study" / "study-0.1.0"


def config(**changes: Any) -> LanguageStudyConfig:
    parsed = parse_config({"model": "m", "space": {"precision": ["int8", "int4"]}, **changes}, "x.yaml")
    assert isinstance(parsed, LanguageStudyConfig)
    return parsed


def language(found: AnyConfig) -> LanguageStudyConfig:
    assert isinstance(found, LanguageStudyConfig)
    return found


def test_a_new_study_learns_from_its_models_own_text_too_and_is_confirmed_on_another_kind() -> None:
    begun = language(begin_texts(config()))
    assert begun.calibration.own == OWN
    assert begun.evaluation.other_texts == {"encyclopedia": "demo:encyclopedia"}
    assert "own: 0.5" in begun.to_yaml()
    assert "encyclopedia: demo:encyclopedia" in begun.to_yaml()


def windows_of(found: AnyConfig) -> tuple[int, int]:
    evaluation = language(found).evaluation
    return evaluation.windows, evaluation.window_tokens


def test_windows_in_a_scenario_are_as_long_as_its_context_and_not_many_more_tokens() -> None:
    assert windows_of(begin_texts(config())) == (16, 512)
    assert windows_of(begin_texts(config(scenario="rag"))) == (4, 4096)
    assert windows_of(begin_texts(config(scenario="agent"))) == (4, 4096)
    assert windows_of(begin_texts(config(scenario={"context": 1024}))) == (16, 1024)
    assert windows_of(begin_texts(config(scenario={"context": 300}))) == (16, 512)


def test_windows_that_the_study_names_stay() -> None:
    assert windows_of(begin_texts(config(scenario="rag", evaluation={"window_tokens": 256}))) == (16, 256)
    assert windows_of(begin_texts(config(scenario="rag", evaluation={"windows": 6}))) == (6, 4096)


def test_windows_are_shorter_where_there_is_no_room_or_too_little_text() -> None:
    def fits(most: int) -> AnyConfig:
        return begin_texts(config(scenario="rag"), lambda asked: windows_of(asked)[1] <= most)

    assert (windows_of(fits(2048)), windows_of(fits(1)), windows_of(fits(4096))) == ((8, 2048), (16, 512), (4, 4096))


def test_a_study_goes_on_with_the_windows_that_it_was_begun_with() -> None:
    asked = config(scenario="rag")
    begun = begin_texts(asked, lambda found: windows_of(found)[1] <= 2048)
    assert resume_texts(asked, json.loads(json.dumps(begun_texts(begun)))) == begun


def test_a_text_of_ones_own_has_no_other_kind_by_default(tmp_path: Path) -> None:
    begun = language(begin_texts(config(evaluation={"text": {"file": "a.txt"}})))
    assert begun.evaluation.other_texts == {}


def test_a_text_that_is_learned_from_is_no_other_kind() -> None:
    begun = language(begin_texts(config(calibration={"texts": ["demo:encyclopedia"]})))
    assert begun.evaluation.other_texts == {}


def test_what_a_yaml_says_stays() -> None:
    said = config(calibration={"own": 0}, evaluation={"other_texts": {}})
    assert begin_texts(said) == said
    assert resume_texts(said, begun_texts(begin_texts(config()))) == said  # which is refused as another study


def test_a_study_goes_on_with_the_texts_that_it_was_begun_with() -> None:
    new, old = begin_texts(config()), config()
    assert resume_texts(config(), json.loads(json.dumps(begun_texts(new)))) == new
    assert resume_texts(config(), begun_texts(old)) == old
    assert resume_texts(config(), {}) == old  # of a worker: led by a version that knew no such texts
    assert resume_texts(config(calibration={"own": 0}), begun_texts(old)) == old


def test_a_study_folder_of_0_1_0_keeps_its_text(tmp_path: Path) -> None:
    study = StudyDir(Path(shutil.copytree(OLD, tmp_path / "study")))
    asked = parse_config(yaml.safe_load(study.config_path.read_text()), "config.yaml")
    assert study_texts(asked, study) == load_config(study.config_path)
    assert study_texts(asked, StudyDir(tmp_path / "new")) == begin_texts(asked)
    assert study_texts(asked, StudyDir(tmp_path / "new")) != asked


def test_a_graph_study_has_no_such_texts() -> None:
    raw = {"model": "m.onnx", "space": {"precision": ["fp32", "int8"]}, "inputs": {"shapes": {"s": {"sequence": 16}}}}
    graph = parse_config(raw, "graph.yaml")
    assert (begin_texts(graph), resume_texts(graph, {}), begun_texts(graph)) == (graph, graph, {})


def test_commands_choose_other_texts_that_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    wikitext = {"dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1"}
    monkeypatch.setattr(TextSource, "documents", lambda *_: ["a"])
    found = [reachable_others(text) for text in ("demo:news", wikitext, {"file": "a.txt"}, {"dataset": "a/b"})]
    assert found == [{"encyclopedia": "demo:encyclopedia"}, {"news": "demo:news"}, {}, {}]

    def unreachable(*_: object) -> list[str]:
        raise SourceError("pip could not fetch it")

    monkeypatch.setattr(TextSource, "documents", unreachable)
    assert [reachable_others(text) for text in ("demo:news", wikitext)] == [{}, {}]


def test_the_base_writes_the_text_of_whatever_candidate_is_built_alone(tmp_path: Path) -> None:
    choice = {"precision": "int4", "algorithm": "gptq", "fusion_level": "full", "threads": 1}
    recipe = LANGUAGE.compose(choice)
    for own, expected in ((0.5, LANGUAGE.compose({"threads": 1})), (0.0, recipe.float_part())):
        workload = LanguageWorkload(config(space=choice, calibration={"own": own}), StudyDir(tmp_path))
        assert workload.float_recipe(recipe) == expected
        assert workload.float_recipe(LANGUAGE.compose({"precision": "int8"})) is None


@pytest.mark.parametrize("kept", ["calibration", "evaluation"])
def test_other_keys_of_the_sections_stay(kept: str) -> None:
    said = config(calibration={"windows": 3}, evaluation={"windows": 4})
    assert getattr(begin_texts(said), kept).windows == getattr(said, kept).windows
