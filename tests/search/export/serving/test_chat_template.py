"""Chat templates: rendered as transformers renders them, wherever a folder keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from olivine.passes.sources.chat_template import read_template as read_reference
from olivine.search.export.serving.chat_template import read_template
from olivine.search.export.serving.errors import Refused

MESSAGES = [
    {"role": "system", "content": "Be <brief>."},
    {"role": "user", "content": " Où? "},
    {"role": "assistant", "content": "<think>hm</think>\nThere."},
    {"role": "user", "content": "Why?"},
]
TOKENS = {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "pad_token": None}
TEMPLATES = [
    # methods of strings and slices, as Qwen3's and SmolLM3's call them
    "{% for m in messages[::-1] %}{{ m.content.split('</think>')[-1].lstrip('\\n').replace('e', 'E') }}{% endfor %}",
    # loop controls, namespaces and special tokens
    "{{ bos_token }}{% set ns = namespace(n=0) %}{% for m in messages %}{% if m.role == 'system' %}{% continue %}"
    "{% endif %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m['content'] | trim }}{{ eos_token }}{% endfor %}",
    # blocks on lines of their own, JSON, marks of answers, and where the answer begins
    "{% for m in messages %}\n    {% generation %}{{ m | tojson }}{% endgeneration %}\n{% endfor %}\n"
    "{% if add_generation_prompt %}assistant{% endif %}{{ tools is defined and tools is not none }}",
    # what a conversation may bring and does not
    "{% if tools is not none %}tools{% endif %}{% if documents is not none %}documents{% endif %}!",
]


def written(folder: Path, template: Any, *, beside: bool) -> Path:
    config = TOKENS if beside else {**TOKENS, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if beside:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("template", TEMPLATES)
def test_it_says_what_transformers_says(tmp_path: Path, template: str, beside: bool) -> None:
    folder = written(tmp_path, template, beside=beside)
    found, reference = read_template(folder), read_reference(folder)
    assert found is not None
    assert reference is not None
    assert found.render(MESSAGES) == reference.render(MESSAGES)


def test_the_default_of_several_is_taken(tmp_path: Path) -> None:
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    for templates, said in ((several, "plain"), (several[:1], "tools")):
        template = read_template(written(tmp_path, templates, beside=False))
        assert template is not None
        assert template.render(MESSAGES) == said


def test_a_folder_may_have_none(tmp_path: Path) -> None:
    assert read_template(tmp_path) is None
    assert read_template(written(tmp_path, None, beside=False)) is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{{ messages[9].content.lower() }}", "no element 9"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ messages + 1 }}", "list"),
    ],
)
def test_messages_that_it_does_not_take_are_refused(tmp_path: Path, template: str, said: str) -> None:
    found = read_template(written(tmp_path, template, beside=True))
    assert found is not None
    with pytest.raises(Refused, match=said) as caught:
        found.render(MESSAGES)
    assert (caught.value.status, caught.value.param) == (400, "messages")
