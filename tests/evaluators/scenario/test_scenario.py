from __future__ import annotations

import pytest

from olivine.evaluators.scenario.scenario import READY, Scenario
from olivine.passes.errors import UsageError


def test_every_turn_counts_its_prompt_and_its_answer() -> None:
    assert Scenario(prompt_tokens=100, new_tokens=20).tokens == 120
    assert Scenario(prompt_tokens=100, new_tokens=20, turns=3, turn_tokens=7).tokens == 120 + 2 * 27


@pytest.mark.parametrize("name", READY)
def test_a_ready_scenario_fits_its_own_context(name: str) -> None:
    assert READY[name].name == name
    assert READY[name].complete() == READY[name]


def test_without_a_context_it_is_what_the_scenario_takes() -> None:
    assert Scenario(prompt_tokens=100, new_tokens=20).complete().context == 120


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (Scenario(context=100, prompt_tokens=90, new_tokens=20), "too short: a prompt of 90 and an answer of 20 .*110"),
        (Scenario(context=100, turns=9), "9 turns, a first prompt of 128 tokens, later ones of 64 and answers of 32"),
        (Scenario(prompts="p.txt"), "needs a 'context'"),
        (Scenario(prompts="p.txt", context=100, turns=2), "leave 'turns' out"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(scenario: Scenario, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        scenario.complete()


def test_prompts_of_a_file_are_named_in_the_place_of_lengths() -> None:
    assert READY["code-edit"].words() == "prompts of demo:code-edit, each with an answer of at most 300 tokens"
    own = Scenario(prompts="somewhere/mine.jsonl", context=100)
    assert own.words() == "prompts of mine.jsonl, each with an answer of at most 32 tokens"
