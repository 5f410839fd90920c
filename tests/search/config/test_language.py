"""Every broken YAML in ``golden/`` gives exactly the message beside it, and sound ones give what they say.

After a change of wording, write the messages anew and read the diff as a newcomer would:

    OLIVINE_WRITE_GOLDEN=1 pytest tests/search/config/test_language.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from olivine.passes.errors import UsageError
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config, parse_config
from olivine.search.config.sections import DatasetConfig, TextFileConfig

GOLDEN = Path(__file__).parent / "golden"
CONFIGS = Path(__file__).parents[3] / "configs"
BROKEN = sorted(GOLDEN.glob("*.yaml"))


def sound(**changes: object) -> dict[str, object]:
    return {"model": "demo:smollm2-135m-instruct", "space": {"precision": ["int8", "int4"]}, **changes}


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(path)
    return str(caught.value).replace(str(path), path.name) + "\n"


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_broken_yaml_gives_its_golden_message(path: Path) -> None:
    message, golden = complaint(path), path.with_suffix(".txt")
    if os.environ.get("OLIVINE_WRITE_GOLDEN"):
        golden.write_text(message, encoding="utf-8")
    assert message == golden.read_text(encoding="utf-8")


def test_every_golden_message_has_its_yaml() -> None:
    assert len(BROKEN) >= 24
    assert {path.stem for path in GOLDEN.glob("*.txt")} == {path.stem for path in BROKEN}


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_no_message_speaks_pydantic_or_python(path: Path) -> None:
    message = complaint(path)
    for foreign in (
        "input should be",
        "Input should",
        "pydantic",
        "NoneType",
        "dict",
        "tuple",
        "Traceback",
        "ctx",
    ):
        assert foreign not in message
    assert message.count("\n") < 12
    assert all(len(line) < 500 for line in message.splitlines())


def test_several_mistakes_are_all_counted() -> None:
    with pytest.raises(UsageError, match=r"x\.yaml: 3 mistakes"):
        parse_config(sound(seed="a", nonsense=1, stop={"trials": 0}), "x.yaml")


def test_a_config_error_ends_with_exit_code_2() -> None:
    with pytest.raises(UsageError) as caught:
        parse_config({}, "x.yaml")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads_and_survives_its_own_yaml(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(resolved) == config


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_says_purpose_assumptions_time_and_command(path: Path) -> None:
    header = [line[1:] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    words = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in header if ":" in line}
    assert all(words.get(word) for word in ("Purpose", "Assumptions", "Time", "Command"))
    assert f"olivine run configs/{path.name} " in words["Command"] + " "


def test_quantities_are_read_in_their_units() -> None:
    config = parse_config(
        sound(
            stop={"timeout": "1.5h"},
            evaluation={"latency": {"half_width": "3%", "max_seconds": "90s"}},
            children={"timeout": 12, "memory": "8GB"},
            cache={"max_bytes": "1 GiB"},
        ),
        "x.yaml",
    )
    assert config.stop.timeout == 5400
    assert config.evaluation.latency.half_width == pytest.approx(0.03)
    assert config.evaluation.latency.max_seconds == 90
    assert config.children.timeout == 12
    assert config.children.memory == 8_000_000_000
    assert config.cache.max_bytes == 2**30


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("demo:news", "demo:news"),
        ({"file": "a.txt"}, TextFileConfig(file="a.txt")),
        ({"dataset": "a/b", "config": "c"}, DatasetConfig(dataset="a/b", config="c")),
    ],
)
def test_each_form_of_text_is_recognised(text: object, expected: object) -> None:
    assert parse_config(sound(evaluation={"text": text}), "x.yaml").evaluation.text == expected


def test_a_config_is_frozen() -> None:
    config = parse_config(sound(), "x.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1


def test_overrides_take_dotted_paths_and_yaml_values(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(sound()), encoding="utf-8")
    config = load_config(path, {"space.precision": "[int4]", "stop.trials": "3", "model": "org/name"})
    assert config.space == {"precision": ["int4"]}
    assert config.stop.trials == 3
    assert config.model == "org/name"


@pytest.mark.parametrize(
    ("dotted", "text", "message"),
    [
        ("model.name", "x", "'model' is no section; it holds the text 'demo:smollm2-135m-instruct'"),
        ("stop.trials", "[1", "'\\[1' is no YAML value: line 1, column 3"),
        ("stop.trails", "3", "stop.trails: unknown key. Did you mean 'trials'"),
    ],
)
def test_a_broken_override_is_named(tmp_path: Path, dotted: str, text: str, message: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump(sound()), encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        load_config(path, {dotted: text})


def test_yaml_merge_keys_work(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        "model: org/name\nspace: {precision: [int8, int4]}\n"
        "enqueue:\n  - &known {precision: int8, block_size: 32}\n  - {<<: *known, block_size: 64}\n",
        encoding="utf-8",
    )
    assert load_config(path).enqueue[1] == {"precision": "int8", "block_size": 64}


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match=r"none\.yaml can't be read: No such file"):
        load_config(Path("none.yaml"))


def test_defaults_need_no_more_than_model_and_space() -> None:
    config = LanguageStudyConfig(model="org/name", space={"precision": "int4"})
    assert config.objectives == ("tpot_ms", "perplexity_ratio")
    assert config.confirm.windows is None


def test_a_null_that_switches_something_off_is_written_and_read_again(tmp_path: Path) -> None:
    config = parse_config(sound(confirm={"race": None}), "x.yaml")
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(resolved) == config
    assert load_config(resolved).confirm.race is None
    assert "revision" not in yaml.safe_load(config.to_yaml())
