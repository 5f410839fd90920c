"""What a build may answer, and what is no answer."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from olivine.passes.errors import OlivineError, PassRefused
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.search.builds.messages import BuildRefused, Built, ExpectedLosses, parse

BUILT = Built("/cache/artifacts/k/model", "k", ["onnx"], [{"name": "export", "params": {}}], 1)
LOSS = LayerLoss("model/layers.0/q", 64, 64, {"32/sym/alone": 0.5}, {"255": 1})


@pytest.mark.parametrize("answer", [BUILT, BuildRefused("PassRefused", "no", 1), ExpectedLosses([LOSS], 1)])
def test_an_answer_arrives_as_it_was_written(answer: Built | BuildRefused | ExpectedLosses) -> None:
    assert parse(json.dumps(asdict(answer)).encode()) == answer


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no JSON"),
        (b"\xff\x00", "no JSON"),
        (b'{"path": "/tmp", "ke', "no JSON"),
        (b"[1, 2]", "which is no answer"),
        (b"{}", "a Built without 'path'"),
        (json.dumps({**asdict(BUILT), "key": 7}).encode(), "whose 'key' is 7: Input should be a valid string"),
        (json.dumps({**asdict(BUILT), "holds": [1]}).encode(), r"whose 'holds\.0' is 1"),
        (json.dumps({**asdict(BUILT), "colour": "blue"}).encode(), "whose 'colour' is 'blue': Unexpected keyword"),
        (b'{"error": 1, "message": "", "peak_rss_bytes": 1}', "a BuildRefused whose 'error' is 1"),
        (b'{"losses": {}, "peak_rss_bytes": 1}', "an? ExpectedLosses whose 'losses' is {}"),
    ],
)
def test_what_is_no_answer_says_why(content: bytes, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse(content)


def test_a_loss_that_is_no_number_is_no_forecast() -> None:
    assert ExpectedLosses([LOSS], 1).by_path() == {LOSS.path: LOSS}
    spoiled = asdict(ExpectedLosses([replace(LOSS, blocks={"32/sym/alone": float("nan")})], 1))
    with pytest.raises(ValueError, match=r"blocks\.32/sym/alone' is nan: Input should be a finite number"):
        parse(json.dumps(spoiled).encode())


def test_a_refusal_is_raised_as_what_it_was_and_never_as_another_name_of_its_module() -> None:
    assert type(BuildRefused("PassRefused", "no", 1).exception()) is PassRefused
    for name in ("annotations", "nearest", "Excess", "nothing"):
        assert type(BuildRefused(name, "no", 1).exception()) is OlivineError
