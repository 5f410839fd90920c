"""Tokens of texts and texts of chat messages, by the tokenizer in a model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from olivine.evaluators.data.tokenizing import ChatTemplate, is_chat, read_tokenizer, tokenize
from olivine.evaluators.data.windows import TokenizedText
from olivine.passes.errors import UsageError


@pytest.fixture
def tokenizer_folder(tmp_path: Path) -> Path:
    """A tokenizer that knows letters and blanks, and puts <s> before a text."""
    vocab = {"<s>": 0, "a": 1, "b": 2, " ": 3, "é": 4}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_text_is_tokenized_without_special_tokens_and_the_habit_is_noted(tokenizer_folder: Path) -> None:
    tokens = tokenize("ab é", tokenizer_folder)
    assert tokens == TokenizedText("ab é", (1, 2, 3, 4), ((0, 1), (1, 2), (2, 3), (3, 4)), (0,))


def test_a_folder_without_a_tokenizer_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no tokenizer that can be read"):
        tokenize("a", tmp_path)


def leave(folder: Path, **settings: object) -> None:
    """Leave settings of training in a tokenizer.json."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


TRUNCATION = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
PADDING = {
    "strategy": {"Fixed": 9},
    "direction": "Right",
    "pad_to_multiple_of": None,
    "pad_id": 0,
    "pad_type_id": 0,
    "pad_token": "<s>",
}


@pytest.mark.parametrize("settings", [{"truncation": TRUNCATION}, {"padding": PADDING}])
def test_a_tokenizer_that_training_left_cutting_or_padding_sees_the_whole_text(
    tokenizer_folder: Path, settings: dict[str, object]
) -> None:
    whole = tokenize("ab é" * 20, tokenizer_folder)
    leave(tokenizer_folder, **settings)
    assert tokenize("ab é" * 20, tokenizer_folder) == whole
    assert len(read_tokenizer(tokenizer_folder / "tokenizer.json").encode("ab é").ids) == 5


def test_messages_go_through_the_models_own_template(tiny_llama: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    share_gpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    template = ChatTemplate(tiny_llama)
    assert is_chat(messages)
    assert is_chat(share_gpt)
    text = template.render(messages)
    assert text.index("Hi") < text.index("Ho")
    assert template.render(share_gpt) == text


def test_a_model_without_a_chat_template_says_so(tokenizer_folder: Path) -> None:
    (tokenizer_folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(UsageError, match="has no chat template for chat messages"):
        ChatTemplate(tokenizer_folder).render([{"role": "user", "content": "Hi"}])


def test_messages_that_the_template_refuses_are_a_mistake(tokenizer_folder: Path) -> None:
    refusing = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "chat_template": "{{ raise_exception('roles must alternate') }}",
    }
    (tokenizer_folder / "tokenizer_config.json").write_text(json.dumps(refusing))
    with pytest.raises(UsageError, match="refuses the messages: roles must alternate"):
        ChatTemplate(tokenizer_folder).render([{"role": "user", "content": "Hi"}])
