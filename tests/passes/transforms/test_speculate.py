from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.connection import ModelProcessFailed
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.recipe import Recipe
from olivine.passes.transforms.speculate import Speculate

#: A text that repeats itself, so that guesses are many.
PROMPT = [int(token) for token in np.random.default_rng(3).integers(4, 300, 20)] * 6


@pytest.fixture
def guessing(tiny_onnx: Path, tmp_path: Path) -> Path:
    """The tiny model with guesses from n-grams of 2 tokens."""
    folder = Path(shutil.copytree(tiny_onnx, tmp_path / "guessing"))
    config = Speculate(2, 3).edited(json.loads((folder / GENAI_CONFIG).read_text()))
    (folder / GENAI_CONFIG).write_text(json.dumps(config))
    return folder


def answer(folder: Path) -> tuple[list[int], dict[str, Any]]:
    """Tokens of a greedy answer by the folder's own config, and what GenAI counted of its guesses."""
    import onnxruntime_genai as genai

    params = genai.GeneratorParams(model := genai.Model(str(folder)))
    params.set_search_options(max_length=len(PROMPT) + 60, min_length=len(PROMPT) + 60)
    generator = genai.Generator(model, params)
    generator.append_tokens(np.array(PROMPT, dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return generator.get_sequence(0).tolist(), generator.get_speculative_stats()


def test_it_is_a_section_of_its_own() -> None:
    config: dict[str, Any] = {"search": {"max_length": 8}}
    assert Speculate(3, 5).edited(config) == {**config, "speculative": {"ngram_size": 3, "max_draft_tokens": 5}}
    assert config == {"search": {"max_length": 8}}


def test_guesses_change_no_token(tiny_onnx: Path, guessing: Path) -> None:
    plain, uncounted = answer(tiny_onnx)
    guessed, counted = answer(guessing)
    assert guessed == plain
    assert uncounted["draft_tokens_accepted"] == 0
    assert counted["draft_tokens_accepted"] > 0


def test_what_is_timed_and_scored_runs_without_guesses(tiny_onnx: Path, guessing: Path, tmp_path: Path) -> None:
    with ModelProcess.open(tiny_onnx) as plain, ModelProcess.open(guessing) as process:
        written = [each.generate_until(PROMPT, 12, lambda ids: False) for each in (plain, process)]
        assert written[0] == written[1]
        process.prefill(PROMPT, 8)
        assert len(process.decode(7).ms) == 7
        plain.reference([(PROMPT, 100)], tmp_path / "reference.npz", 8)
        score = process.score(tmp_path / "reference.npz", 0)
        assert (score.tokens, score.agree) == (100, 100)


def test_the_server_switches_guesses_off(guessing: Path) -> None:
    from olivine.evaluators.process.servers.genai import GenaiServer

    server = GenaiServer()
    server.open(guessing, json.loads((guessing / GENAI_CONFIG).read_text()))
    server.prefill(PROMPT, 40)
    server.decode(39)
    assert server._generator.get_speculative_stats()["draft_tokens_proposed"] == 0


def test_the_run_of_a_scenario_guesses_nothing(guessing: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime_genai as genai

    from olivine.evaluators.scenario.plain_run import run

    made: list[Any] = []

    def generator(model: Any, params: Any) -> Any:
        made.append(Generator(model, params))
        return made[-1]

    Generator = genai.Generator
    monkeypatch.setattr(genai, "Generator", generator)
    run(str(guessing), [PROMPT], 40)
    (ran,) = made
    assert len(ran.get_sequence(0)) == len(PROMPT) + 40
    assert ran.get_speculative_stats()["draft_tokens_proposed"] == 0


def test_a_folder_whose_guesses_can_not_be_checked_does_not_load(tiny_onnx: Path, tmp_path: Path) -> None:
    import onnx_ir as ir

    from olivine.passes.graph import save_wiring
    from olivine.passes.transforms.prune_head import PruneHead

    model = ir.load(tiny_onnx / "model.onnx")
    PruneHead().rewire(model)
    save_wiring(model, tiny_onnx, "model.onnx", folder := tmp_path / "pruned")
    config = Speculate(3).edited(json.loads((tiny_onnx / GENAI_CONFIG).read_text()))
    (folder / GENAI_CONFIG).unlink()  # a hard link to the one that other tests read
    (folder / GENAI_CONFIG).write_text(json.dumps(config))
    with pytest.raises(ModelProcessFailed, match="pruned last-token-only logits"), ModelProcess.open(folder):
        pass


def test_a_window_of_tokens_takes_no_guess_back() -> None:
    with pytest.raises(PassRefused, match="no guess can be taken back"):
        Speculate(3).edited({"model": {"decoder": {"sliding_window": {"window_size": 128}}}})


@pytest.mark.parametrize(("size", "most", "said"), [(1, 4, "ngram_size is 1"), (17, 4, "2 to 16"), (3, 17, "1 to 16")])
def test_what_genai_does_not_take_is_a_mistake(size: int, most: int, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Speculate(size, most)


def test_only_a_recipe_that_names_it_has_such_a_step_and_never_beside_a_pruned_head() -> None:
    def extra(**choice: Any) -> dict[str, Any] | None:
        steps = set(LANGUAGE.compose({"threads": 1, **choice}).steps) - set(plain.steps)
        return next((dict(step.params) for step in steps if step.name == "speculate"), None)

    plain: Recipe = LANGUAGE.compose({"threads": 1})
    assert LANGUAGE.compose({"threads": 1, "ngram_size": 0, "max_draft_tokens": 8}) == plain
    assert {"ngram_size", "max_draft_tokens"}.isdisjoint(LANGUAGE.canonical({"threads": 1, "max_draft_tokens": 8}))
    assert extra(ngram_size=3) == extra(ngram_size=3, max_draft_tokens=4) == {"ngram_size": 3, "max_draft_tokens": 4}
    assert extra(ngram_size=2, max_draft_tokens=16) == {"ngram_size": 2, "max_draft_tokens": 16}
    assert extra(ngram_size=3, prune_head=True) is None
    assert extra(ngram_size=3, provider="cuda") is None
