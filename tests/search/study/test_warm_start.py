from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_folder import records, write_study

from olivine.passes.errors import UsageError
from olivine.search.config.load import load_config
from olivine.search.report.study_view import read_view
from olivine.search.study.warm_start import warm_started

SPACE: dict[str, Any] = {
    "precision": ["int8", "int4", "mixed"],
    "algorithm": ["rtn", "gptq"],
    "block_size": [16, 32],
    "int8_share": {"low": 0.0, "high": 0.6},
    "activations": ["float", "int8"],
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({"model": "demo:smollm2-135m-instruct", "space": SPACE, **changes}))
    return path


def test_the_front_of_an_earlier_study_comes_after_what_is_named(tmp_path: Path) -> None:
    study = write_study(tmp_path / "earlier")
    front = [member.params for member in read_view(study).members]
    named = {"precision": "int4", "algorithm": "gptq"}
    config = warm_started(load_config(write(tmp_path, enqueue=[{"from": str(study.root)}, named])))
    assert config.enqueue[0] == named
    assert len(config.enqueue) > 2
    for choice in config.enqueue[1:]:
        assert any(choice.items() <= params.items() for params in front)


def test_what_lies_outside_of_the_space_is_left_out(tmp_path: Path) -> None:
    study = write_study(tmp_path / "earlier")
    narrow = {"precision": ["int4", "mixed"], "block_size": [32], "int8_share": {"low": 0.4, "high": 0.6}}
    config = warm_started(load_config(write(tmp_path, space=narrow, enqueue=[{"from": str(study.root)}])))
    assert config.enqueue
    assert all(0.4 <= choice.get("int8_share", 0.5) <= 0.6 for choice in config.enqueue)


def test_a_study_of_another_context_gives_its_front_for_this_one(tmp_path: Path) -> None:
    earlier = [replace(trial, params={**trial.params, "context": 4096}) for trial in records()]
    study = write_study(tmp_path / "earlier", earlier)
    here = write(tmp_path, space={**SPACE, "context": 8192}, enqueue=[{"from": str(study.root)}])
    config = warm_started(load_config(here))
    without = warm_started(load_config(write(tmp_path, enqueue=[{"from": str(write_study(tmp_path / "plain").root)}])))
    assert config.enqueue == without.enqueue
    assert config.enqueue


def test_an_earlier_study_with_nothing_to_take_is_a_mistake(tmp_path: Path) -> None:
    study = write_study(tmp_path / "earlier")
    with pytest.raises(UsageError, match=r"none of its \d+ front members lies in this search space"):
        warm_started(load_config(write(tmp_path, space={"precision": ["fp32"]}, enqueue=[{"from": str(study.root)}])))
    with pytest.raises(UsageError, match="is no study folder"):
        warm_started(load_config(write(tmp_path, enqueue=[{"from": str(tmp_path)}])))


def test_from_beside_other_keys_is_an_unknown_axis(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"enqueue\.0\.from: unknown axis"):
        warm_started(load_config(write(tmp_path, enqueue=[{"from": "x", "precision": "int4"}])))
