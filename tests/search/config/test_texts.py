"""Texts that a study can't have, named with their place before any work."""

from __future__ import annotations

from typing import Any

import pytest

from olivine.passes.errors import UsageError
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import parse_config
from olivine.search.config.sections import TextFileConfig


def parsed(evaluation: dict[str, Any], **more: Any) -> LanguageStudyConfig:
    raw = {"model": "some/model", "space": {"precision": ["int8", "int4"]}, "evaluation": evaluation, **more}
    config = parse_config(raw, "study.yaml")
    assert isinstance(config, LanguageStudyConfig)
    return config


def test_a_text_is_named_in_the_same_forms_everywhere() -> None:
    config = parsed(
        {"text": {"file": "a.txt"}, "other_texts": {"books": {"file": "b.txt"}, "news": "demo:news"}},
        calibration={"texts": ["demo:encyclopedia", {"file": "c.txt"}]},
    )
    assert config.evaluation.other_texts == {"books": TextFileConfig(file="b.txt"), "news": "demo:news"}
    assert config.calibration.texts == ("demo:encyclopedia", TextFileConfig(file="c.txt"))


@pytest.mark.parametrize(
    ("evaluation", "calibration", "message"),
    [
        ({"text": "demo:mews"}, {}, r"evaluation\.text: unknown demo 'demo:mews'\. Did you mean 'demo:news'"),
        ({"other_texts": {"a": "demo:x"}}, {}, r"evaluation\.other_texts\.a: unknown demo 'demo:x'"),
        ({}, {"texts": ["demo:x"]}, r"calibration\.texts\.0: unknown demo 'demo:x'"),
        ({"other_texts": {"My books": "b.txt"}}, {}, r"evaluation\.other_texts\.My books: a name takes small letters"),
        ({"other_texts": {"a.b": "b.txt"}}, {}, r"evaluation\.other_texts\.a\.b: a name takes small letters"),
        ({"other_texts": {"same": "demo:news"}}, {}, r"evaluation\.other_texts\.same: this is evaluation\.text too"),
        (
            {"text": {"file": "a.txt"}, "other_texts": {"code": {"file": "c.txt"}}},
            {"texts": [{"file": "c.txt"}]},
            r"evaluation\.other_texts\.code: this is calibration\.texts\.0 too, which candidates learn from",
        ),
        (
            {"other_texts": {"a": {"fil": "b"}}},
            {},
            r"evaluation\.other_texts\.a\.fil: unknown key. Did you mean 'file'",
        ),
        ({"other_texts": {"a": {"file": "b", "colum": "c"}}}, {}, r"evaluation\.other_texts\.a\.colum: unknown key"),
        ({}, {"texts": "demo:news"}, r"calibration\.texts: takes a list; .* Write it as \[demo:news\]"),
    ],
)
def test_a_mistake_in_a_text_names_its_place(
    evaluation: dict[str, Any], calibration: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        parsed(evaluation, calibration=calibration)
