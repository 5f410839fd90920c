from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from olivine.evaluators.process.client import Loop, ModelProcess
from olivine.evaluators.scenario.deployed import Deployed
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.catalog import LANGUAGE
from olivine.passes.transforms.context_length import ContextLength
from olivine.passes.transforms.growing_cache import GrowingCache

PROMPT = [int(token) for token in np.random.default_rng(3).integers(4, 300, 60)]


@pytest.fixture
def growing(tiny_onnx: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(tiny_onnx, tmp_path / "growing"))
    config = GrowingCache().edited(json.loads((folder / GENAI_CONFIG).read_text()))
    (folder / GENAI_CONFIG).write_text(json.dumps(config))
    return folder


def test_the_buffer_is_an_option_of_the_search() -> None:
    config: dict[str, Any] = {"search": {"max_length": 8, "past_present_share_buffer": True}}
    assert GrowingCache().edited(config) == {"search": {"max_length": 8, "past_present_share_buffer": False}}
    assert config["search"]["past_present_share_buffer"]
    assert GrowingCache().edited({}) == {"search": {"past_present_share_buffer": False}}


@pytest.mark.parametrize("loop", ["genai", "session"])
def test_a_growing_cache_changes_no_token(tiny_onnx: Path, growing: Path, loop: Loop) -> None:
    with ModelProcess.open(tiny_onnx) as shared, ModelProcess.open(growing, loop=loop) as own:
        written = [process.generate_until(PROMPT, 24, lambda ids: False) for process in (shared, own)]
    assert written[0] == written[1]


def test_a_conversation_goes_on_with_a_growing_cache(growing: Path) -> None:
    scenario = Scenario(context=200, prompt_tokens=20, new_tokens=8, turns=3, turn_tokens=10)
    with ModelProcess.open(growing) as process:
        found = {m.metric for m in Deployed(scenario).evaluate(process, process)}
    assert "deployed_rss_bytes" in found


def test_room_for_a_long_context_is_not_taken_before_it_is_needed(tiny_onnx: Path, growing: Path) -> None:
    scenario = Scenario(context=200_000, prompt_tokens=60, new_tokens=8)
    peaks = []
    for folder in (tiny_onnx, growing):
        config = json.loads((folder / GENAI_CONFIG).read_text())
        config["model"]["context_length"] = scenario.context
        long = Path(shutil.copytree(folder, growing.parent / f"long-{folder.name}"))
        (long / GENAI_CONFIG).write_text(json.dumps(ContextLength(scenario.context).edited(config)))
        with ModelProcess.open(long) as process:
            found = {m.metric: m.value for m in Deployed(scenario).evaluate(process, process)}
        peaks.append(found["deployed_rss_bytes"])
    assert peaks[0] - peaks[1] > 0.9 * found["context_bytes"]


def test_only_a_recipe_that_asks_for_it_has_such_a_step() -> None:
    plain = LANGUAGE.compose({"threads": 1})
    assert LANGUAGE.compose({"threads": 1, "share_buffer": True}) == plain
    (step,) = set(LANGUAGE.compose({"threads": 1, "share_buffer": False}).steps) - set(plain.steps)
    assert (step.name, step.params) == ("growing_cache", {})
    assert LANGUAGE.compose({"provider": "cuda", "share_buffer": False}) == LANGUAGE.compose({"provider": "cuda"})
