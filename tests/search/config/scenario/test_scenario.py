"""``scenario:`` of a study: what it decides, what contradicts it, and what is no scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from olivine.evaluators.scenario.scenario import DEMO_PROMPTS, READY, prompts_file
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import resolve
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import language_config, parse_config
from olivine.search.config.scenario.effects import check_fits
from olivine.search.config.scenario.section import parse_scenario

DEMO = "demo:smollm2-135m-instruct"


def parsed(**changes: Any) -> LanguageStudyConfig:
    raw = {"model": DEMO, "space": {"precision": ["int8", "int4"]}, **changes}
    return language_config(parse_config(raw, "a.yaml"))


def complaint(**changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        parsed(**changes)
    return str(caught.value)


def test_a_ready_name_decides_the_context_and_what_is_timed() -> None:
    config, ready = parsed(scenario="rag"), READY["rag"]
    assert config.use() == ready
    assert config.space == {"precision": ["int8", "int4"], "context": ready.context}
    timing = config.evaluation.latency
    assert (timing.prompt_tokens, timing.new_tokens) == (ready.prompt_tokens, ready.new_tokens)


def test_a_mapping_changes_a_ready_one_or_stands_by_itself() -> None:
    use = parsed(scenario={"name": "rag", "context": 8192}).use()
    assert use is not None
    assert (use.context, use.prompt_tokens) == (8192, READY["rag"].prompt_tokens)
    own = parsed(scenario={"prompt_tokens": 100, "new_tokens": 10}).use()
    assert own is not None
    assert (own.name, own.context) == ("own", 110)


def test_prompts_of_a_file_begin_a_conversation_each_also_in_a_ready_one_of_several_turns() -> None:
    use = parsed(scenario={"name": "chat", "prompts": "mine.jsonl"}).use()
    assert use is not None
    assert (use.turns, use.context, use.prompts) == (1, READY["chat"].context, "mine.jsonl")
    assert parse_scenario("--scenario ", "{name: agent, prompts: mine.jsonl}").turns == 1
    assert "leave 'turns' out" in complaint(scenario={"name": "chat", "prompts": "mine.jsonl", "turns": 2})


def test_without_one_a_study_is_what_it_was() -> None:
    config = parsed()
    assert config.use() is None
    assert "context" not in config.space
    assert (config.evaluation.latency.prompt_tokens, config.evaluation.latency.new_tokens) == (128, 32)
    assert "scenario" not in yaml.safe_load(config.to_yaml())


@pytest.mark.parametrize(
    ("context", "timing", "timed"),
    [(5, {}, 160), ([159], {}, 160), (64, {"prompt_tokens": 60, "new_tokens": 5}, 65), (100, {"new_tokens": 8}, 136)],
)
def test_a_context_without_a_scenario_has_room_for_what_is_timed(
    context: object, timing: dict[str, int], timed: int
) -> None:
    evaluation = {"latency": timing}
    told = complaint(space={"precision": "int8", "context": context}, evaluation=evaluation)
    assert f"tokens are too few for the {timed} that are timed" in told
    assert "1 mistake\n  space.context: " in told
    parsed(space={"precision": ["int8", "int4"], "context": timed}, evaluation=evaluation)
    parsed(space={"precision": ["int8", "int4"], "context": 0}, evaluation=evaluation)


def test_a_resolved_config_is_read_as_it_was() -> None:
    config = parsed(scenario="agent")
    assert parse_config(yaml.safe_load(config.to_yaml()), "config.yaml") == config


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ("ragg", "scenario: unknown scenario 'ragg'. Did you mean 'rag'? Available: chat"),
        ({"name": "chta"}, "scenario: unknown scenario 'chta'. Did you mean 'chat'?"),
        (5, "scenario: takes one of chat, rag"),
        ({"contxt": 5}, "scenario.contxt: unknown key. Did you mean 'context'?"),
        ({"context": "long"}, "scenario.context: takes a whole number; found the text 'long'"),
        ({"new_tokens": 1}, "scenario.new_tokens: takes at least 2; found 1"),
        ({"name": "rag", "context": 1000}, "scenario: the context of 1000 tokens is too short"),
        ({"prompts": "p.txt"}, "scenario: 'prompts' needs a 'context'"),
    ],
)
def test_what_is_no_scenario_is_one_mistake(scenario: object, message: str) -> None:
    told = complaint(scenario=scenario)
    assert message in told
    assert "1 mistake\n" in told


def test_keys_that_say_otherwise_are_named() -> None:
    told = complaint(
        scenario="rag",
        space={"precision": "int8", "context": 2048},
        evaluation={"latency": {"prompt_tokens": 128, "new_tokens": READY["rag"].new_tokens}},
    )
    assert "space.context: is 2048, and the scenario's is 4096. Leave it out" in told
    assert "evaluation.latency.prompt_tokens: is 128, and the scenario's is 2000" in told
    assert "new_tokens" not in told


def test_goals_of_a_scenario_need_one() -> None:
    goal = "deployed_rss_bytes <= 300MB"
    assert "constraints.0: 'deployed_rss_bytes' is measured in a scenario. Add 'scenario: chat'" in complaint(
        constraints=[goal]
    )
    assert parsed(constraints=[goal], scenario="chat").parsed_constraints()[0].bound == 300e6


def test_a_provider_without_genai_has_no_deployed_memory() -> None:
    space = {"provider": "webgpu", "precision": "fp16"}
    told = complaint(space=space, scenario="chat", constraints=["deployed_rss_bytes <= 1GB", "context_bytes <= 1GB"])
    assert (
        "constraints.0: 'deployed_rss_bytes' is measured by ONNX Runtime GenAI, which has no build for webgpu" in told
    )
    assert "context_bytes" not in told


def test_a_context_longer_than_the_models_is_refused_before_any_work(tiny_llama: Path) -> None:
    source = resolve(str(tiny_llama))
    check_fits(None, source)
    check_fits(parsed(scenario={"context": 256}).use(), source)
    with pytest.raises(UsageError, match=r"scenario.context: 4096 tokens; .* takes 256"):
        check_fits(READY["rag"], source)


def test_a_folder_tells_its_context_too(tiny_onnx: Path) -> None:
    with pytest.raises(UsageError, match="takes 256"):
        check_fits(READY["rag"], resolve(str(tiny_onnx)))


def test_a_command_line_takes_a_name_or_a_mapping() -> None:
    assert parse_scenario("--scenario ", "rag") == READY["rag"]
    assert parse_scenario("--scenario ", "{name: rag, context: 8192}").context == 8192


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ragg", "--scenario ragg: unknown scenario 'ragg'. Did you mean 'rag'"),
        ("{contxt: 5}", "unknown key. Did you mean 'context'"),
        ("{context: long}", "context: takes a whole number; found the text 'long'"),
        ("{name: rag, context: 9}", "the context of 9 tokens is too short"),
        ("[rag]", "takes one of chat"),
        ("{", "no YAML value"),
    ],
)
def test_a_word_that_is_no_scenario_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_scenario("--scenario ", text)
    assert message in str(caught.value)


def test_code_edit_has_prompts_of_its_own_unless_lengths_are_named() -> None:
    assert parse_scenario("--scenario ", "code-edit").prompts == "demo:code-edit"
    assert parse_scenario("--scenario ", "{name: code-edit, prompt_tokens: 700}").prompts == ""
    assert parse_scenario("--scenario ", "{name: code-edit, prompts: mine.txt}").prompts == "mine.txt"
    assert parse_scenario("--scenario ", "{name: chat, prompts: demo:chat}").turns == 1


@pytest.mark.parametrize("name", DEMO_PROMPTS)
def test_ready_prompts_are_twelve_and_none_is_held_back_twice(name: str) -> None:
    texts = prompts_file(name).read_text(encoding="utf-8").splitlines()
    others = [line for other in DEMO_PROMPTS if other != name for line in prompts_file(other).read_text().splitlines()]
    assert len(texts) == 12
    assert not set(texts) & set(others)


def test_ready_prompts_that_there_are_not_are_named() -> None:
    told = complaint(scenario={"name": "code-edit", "prompts": "demo:code-edti"})
    assert "unknown prompts 'demo:code-edti'. Did you mean 'demo:code-edit'?" in told


def test_speculation_needs_real_prompts_and_a_head_that_may_be_whole() -> None:
    space = {"precision": ["int8", "int4"], "ngram_size": [0, 3], "prune_head": [True, False]}
    assert parsed(space=space, scenario="code-edit").space["ngram_size"] == [0, 3]
    chat = {"name": "chat", "prompts": "demo:chat"}
    assert parsed(space={**space, "prune_head": False}, scenario=chat).space["prune_head"] is False
    told = complaint(space=space, scenario="chat")
    assert "space.ngram_size: guesses are timed on the model's own answers to real prompts" in told
    assert "Name a scenario with prompts: 'scenario: code-edit'" in told
    assert "has no effect: no combination uses it while" in complaint(
        space={**space, "prune_head": True}, scenario="code-edit"
    )


def test_a_goal_about_guesses_needs_real_prompts() -> None:
    goal = {"constraints": ["tokens_per_step >= 1.2"]}
    assert parsed(scenario="code-edit", **goal).parsed_constraints()[0].bound == 1.2
    assert "constraints.0: 'tokens_per_step' is measured on answers to real prompts" in complaint(
        scenario="chat", **goal
    )


def test_guesses_are_not_timed_by_a_loop_without_genai() -> None:
    space = {"provider": ["cpu", "openvino"], "precision": "int8", "ngram_size": [0, 3], "prune_head": [True, False]}
    told = complaint(space=space, scenario="code-edit")
    assert "ONNX Runtime GenAI makes the guesses, and has no build for openvino" in told
