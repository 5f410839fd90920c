"""Bodies of chat completions: what is read of them, and what each mistake is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from olivine.search.export.serving.chat_request import ChatRequest, parse_request
from olivine.search.export.serving.errors import Refused

USER = {"role": "user", "content": "Où?"}


def parse(**fields: Any) -> ChatRequest:
    return parse_request(json.dumps({"messages": [USER], **fields}).encode())


def test_everything_that_is_asked_for_is_read() -> None:
    found = parse(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "assistant", "content": "Yes.", "refusal": None, "tool_calls": []},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "Ann"},
        ],
        model="tiny",
        max_tokens=7,
        temperature=0,
        top_p=0.5,
        seed=-3,
        stop="x",
        stream=True,
        stream_options={"include_usage": True},
        user="me",
        n=1,
        logit_bias=None,
        presence_penalty=0.0,
    )
    assert found == ChatRequest(
        messages=(
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "ab"},
        ),
        model="tiny",
        max_new_tokens=7,
        temperature=0.0,
        top_p=0.5,
        seed=-3,
        stop=("x",),
        stream=True,
        stream_usage=True,
    )


def test_what_is_left_out_or_null_is_the_servers_to_choose() -> None:
    assert parse() == parse(temperature=None, stop=None, stream=None) == ChatRequest((USER,))
    assert parse(max_completion_tokens=5, max_tokens=5).max_new_tokens == 5


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "JSON list"),
        (b"{}", "messages has to be a list"),
    ],
)
def test_a_body_that_is_no_request_says_why(body: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        parse_request(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": []}, "messages", "at least one message"),
        ({"messages": ["hello"]}, "messages[0]", "object with role and content"),
        ({"messages": [USER, {"role": "martian", "content": "a"}]}, "messages[1].role", '"martian"; known: system'),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "messages[0].role", "known: system"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "has to be a text"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content", "has to be a text"),
        ({"messages": [{"role": "user", "content": ["a"]}]}, "messages[0].content", "part of type null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "text alone"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content", "has to be a text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages[0].content", "half a character"),
        ({"messages": [{"role": "user", "content": "a\0b"}]}, "messages[0].content", "null character"),
        ({"messages": [{**USER, "tool_calls": [{}]}]}, "messages[0].tool_calls", "not supported"),
        ({"model": 1}, "model", "has to be a text"),
        ({"max_tokens": 0}, "max_tokens", "at least 1"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "at least 1"),
        ({"max_tokens": True}, "max_tokens", "whole number"),
        ({"max_tokens": 1.5}, "max_tokens", "whole number"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_tokens", "differ"),
        ({"temperature": 2.1}, "temperature", "from 0 to 2"),
        ({"temperature": "hot"}, "temperature", "from 0 to 2"),
        ({"temperature": float("nan")}, "temperature", "from 0 to 2"),
        ({"temperature": 10**400}, "temperature", "from 0 to 2"),
        ({"top_p": -0.1}, "top_p", "from 0 to 1"),
        ({"seed": "a"}, "seed", "whole number"),
        ({"stop": ""}, "stop", "none of them empty"),
        ({"stop": ["a", 1]}, "stop", "list of texts"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"stream": 1}, "stream", "true or false"),
        ({"stream_options": True}, "stream_options", "include_usage"),
        ({"stream_options": {"include_usage": 1}}, "include_usage", "true or false"),
        ({"n": 2}, "n", "can only be 1"),
        ({"n": True}, "n", "can only be 1"),
        ({"logprobs": True}, "logprobs", "can only be false"),
        ({"tools": [{"type": "function"}]}, "tools", "can only be []"),
        ({"frequency_penalty": 1}, "frequency_penalty", "can only be 0"),
        ({"max_new_tokens": 5}, "max_new_tokens", "unknown field 'max_new_tokens'; known: max_completion_tokens"),
    ],
)
def test_each_mistake_names_its_field_and_what_fits(fields: dict[str, Any], param: str, said: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(**fields)
    assert said in str(caught.value)
    error = caught.value.to_json()["error"]
    assert (caught.value.status, error["type"], error["param"]) == (400, "invalid_request_error", param)
