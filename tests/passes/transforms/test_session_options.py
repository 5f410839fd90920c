from __future__ import annotations

import copy
from typing import Any

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import available_cores
from olivine.passes.transforms.session_options import OPTIMIZATION_LEVELS, SessionOptions

CONFIG: dict[str, Any] = {
    "model": {
        "context_length": 256,
        "decoder": {"filename": "model.onnx", "session_options": {"log_id": "genai", "provider_options": []}},
    },
    "search": {"max_length": 256},
}


def edited(one: SessionOptions) -> dict[str, Any]:
    before = copy.deepcopy(CONFIG)
    options: dict[str, Any] = one.edited(CONFIG)["model"]["decoder"]["session_options"]
    assert before == CONFIG
    return options


def test_options_are_written_where_genai_reads_them() -> None:
    options = edited(SessionOptions(threads=3, spinning=False, optimization_level="basic"))
    assert options["intra_op_num_threads"] == 3
    assert options["session.intra_op.allow_spinning"] == "0"
    assert options["graph_optimization_level"] == "ORT_ENABLE_BASIC"


def test_zero_threads_and_spinning_leave_the_defaults() -> None:
    options = edited(SessionOptions())
    assert "intra_op_num_threads" not in options
    assert "session.intra_op.allow_spinning" not in options


def test_spinning_is_on_where_the_source_had_switched_it_off() -> None:
    config = copy.deepcopy(CONFIG)
    config["model"]["decoder"]["session_options"]["session.intra_op.allow_spinning"] = "0"
    config = SessionOptions(spinning=True).edited(config)
    assert "session.intra_op.allow_spinning" not in config["model"]["decoder"]["session_options"]


def test_a_config_without_session_options_gets_them() -> None:
    config: dict[str, Any] = {"model": {"decoder": {"filename": "model.onnx"}}}
    config = SessionOptions(threads=2).edited(config)
    assert config["model"]["decoder"]["session_options"]["intra_op_num_threads"] == 2


def test_nothing_else_in_the_config_changes() -> None:
    config = SessionOptions(threads=2).edited(CONFIG)
    del config["model"]["decoder"]["session_options"]["intra_op_num_threads"]
    del config["model"]["decoder"]["session_options"]["graph_optimization_level"]
    assert config == CONFIG


def test_editing_twice_is_editing_once() -> None:
    once = SessionOptions(threads=2, spinning=False).edited(CONFIG)
    assert SessionOptions(threads=2, spinning=False).edited(once) == once


@pytest.mark.parametrize("level", OPTIMIZATION_LEVELS)
def test_every_level_of_the_axis_has_genais_word(level: str) -> None:
    assert edited(SessionOptions(optimization_level=level))["graph_optimization_level"].startswith("ORT_")


def test_the_recipe_says_how_many_threads_it_ran_with() -> None:
    assert SessionOptions.from_choice(LANGUAGE.canonical({})).threads == available_cores()
    assert SessionOptions.from_choice(LANGUAGE.canonical({"threads": 1})).threads == 1


def test_a_gpu_model_takes_no_threads_from_the_space() -> None:
    choice = LANGUAGE.canonical({"provider": "cuda", "precision": "fp16", "threads": 7, "spinning": False})
    assert "threads" not in choice
    assert SessionOptions.from_choice(choice).spinning
