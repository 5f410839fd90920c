"""A tiny model's answers: token counts, seeds, stop words, and a prefix that is not computed again."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.errors import Refused, Unusable
from olivine.search.export.serving.model import KEPT_CHATS, Finished, Model, Piece

CONTEXT = 4096


@pytest.fixture
def model(roomy_onnx: Path) -> Model:
    return Model(roomy_onnx, at_once=4, max_new_tokens=12)


def asked(prompt: str, *turns: str, **fields: Any) -> ChatRequest:
    """A chat of a person, a model, a person, ..."""
    messages = [
        {"role": ("user", "assistant")[index % 2], "content": content} for index, content in enumerate((prompt, *turns))
    ]
    return ChatRequest(tuple(messages), **fields)


def said(model: Model, request: ChatRequest) -> tuple[str, Finished]:
    steps = list(model.answer(request))
    assert isinstance(steps[-1], Finished)
    return "".join(step.text for step in steps if isinstance(step, Piece)), steps[-1]


def test_an_answer_has_as_many_tokens_as_asked_for_and_the_rest_is_the_models(model: Model) -> None:
    _, finished = said(model, asked("Where is the boat?", max_new_tokens=7))
    assert (finished.reason, finished.new_tokens, finished.cached_tokens) == ("length", 7, 0)
    assert said(model, asked("Where is the boat?"))[1].new_tokens == 12


def test_the_same_seed_gives_the_same_answer_and_another_another(model: Model) -> None:
    def sampled(seed: int | None, **fields: Any) -> str:
        return said(model, asked("Where is the boat?", temperature=1.5, seed=seed, **fields))[0]

    first = sampled(7)
    said(model, asked("Where is the boat?", temperature=1.5))  # what came between changes nothing
    assert sampled(7) == first
    assert sampled(7 + 2**31) == first
    assert sampled(8) != first
    assert sampled(-1, top_p=0.9) == sampled(-1, top_p=0.9)
    assert sampled(7, top_p=0.0) == sampled(8, top_p=0.0) == said(model, asked("Where is the boat?", temperature=0))[0]


def test_a_stop_word_ends_the_answer_before_it(model: Model) -> None:
    text, _ = said(model, asked("Where is the boat?", max_new_tokens=40, seed=1))
    word = text[len(text) // 2 :][:3]
    stopped, finished = said(model, asked("Where is the boat?", max_new_tokens=40, seed=1, stop=(word,)))
    assert stopped == text.partition(word)[0]
    assert finished.reason == "stop"
    assert finished.new_tokens < 40


def test_the_next_turn_of_a_chat_computes_its_new_tokens_alone_and_says_the_same(model: Model) -> None:
    question = "The river is wide. " * 120  # several steps
    text, first = said(model, asked(question))
    again, second = said(model, asked(question, text, "And the boat?", max_new_tokens=40))
    assert first.prompt_tokens > 1000
    # Bytes that are no whole character come back as other tokens, so not all of the answer may be found again.
    assert first.prompt_tokens <= second.cached_tokens < first.prompt_tokens + first.new_tokens
    fresh, whole = said(model, asked(question, text, "And the boat?", max_new_tokens=40, seed=1))
    assert whole.cached_tokens == 0
    assert again == fresh != ""


def test_a_seed_other_options_or_another_chat_begin_anew_and_few_chats_are_kept(model: Model) -> None:
    said(model, asked("Where is the boat?"))
    assert said(model, asked("Where is the boat?"))[1].cached_tokens > 0
    for request in (
        asked("Where is the boat?", seed=1),
        asked("Where is the boat?", temperature=0.5),
        asked("Who met on Monday, and what did they talk about?"),
    ):
        assert said(model, request)[1].cached_tokens == 0
    for words in ("A model is a thing.", "The price of bread.", "Green and wide."):
        said(model, asked(words))
    assert len(model.caches) == KEPT_CHATS


def test_generators_are_freed_when_an_answer_is_left_and_never_more_than_may_be_at_once(model: Model) -> None:
    answers = [model.answer(asked(f"Boat {index}", max_new_tokens=500)) for index in range(4)]
    for _ in range(5):
        assert all(not isinstance(next(answer), Finished) for answer in answers)
    assert len(model.caches) == 4
    for answer in answers:
        answer.close()
    assert len(model.caches) == 0
    said(model, asked("One."))
    said(model, asked("Another one, which is not alike at all."))
    assert len(model.caches) == 2
    answers = [model.answer(asked(f"Boat {index}", seed=1)) for index in range(4)]
    for answer in answers:
        next(answer)
        assert len(model.caches) <= 4


def test_where_a_generator_can_not_be_rewound_every_turn_is_computed_whole(
    model: Model, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn:
        def __init__(self, *made_of: Any) -> None:
            self._generator = genai.Generator(*made_of)

        def __getattr__(self, name: str) -> Any:
            if name == "rewind_to":
                raise RuntimeError("WindowedKeyValueCache does not support RewindTo.")
            return getattr(self._generator, name)

    genai = model.caches._genai

    class Windowed:
        GeneratorParams = genai.GeneratorParams
        Generator = Stubborn

    monkeypatch.setattr(model.caches, "_genai", Windowed)
    text, _ = said(model, asked("Where is the boat?"))
    assert said(model, asked("Where is the boat?", text, "Why?"))[1].cached_tokens == 0
    assert "every turn of a chat computes all of it" in caplog.text
    assert len(model.caches) == 0


def test_a_prompt_that_fills_the_context_is_refused_and_an_answer_ends_with_it(model: Model) -> None:
    with pytest.raises(Refused, match=r"the prompt has \d+ tokens; prompt and answer may have 4096 together") as caught:
        said(model, asked("boat " * CONTEXT))
    assert (caught.value.status, caught.value.code) == (400, "context_length_exceeded")
    prompt = "boat " * 1000
    size = said(model, asked(prompt, max_new_tokens=1))[1].prompt_tokens
    _, finished = said(model, asked(prompt, max_new_tokens=10**9))
    assert (finished.reason, finished.prompt_tokens + finished.new_tokens) == ("length", CONTEXT)
    assert size == finished.prompt_tokens


def test_max_length_of_the_folder_is_its_context(roomy_onnx: Path, tmp_path: Path) -> None:
    shutil.copytree(roomy_onnx, tmp_path / "model")
    path = tmp_path / "model" / "genai_config.json"
    config = json.loads(path.read_text())
    config["search"]["max_length"] = 100
    path.write_text(json.dumps(config))
    model = Model(tmp_path / "model", 1, 1000)
    assert said(model, asked("Where?"))[1].new_tokens == 100 - said(model, asked("Where?"))[1].prompt_tokens


def test_a_folder_without_a_template_goes_on_with_one_message(roomy_onnx: Path, tmp_path: Path) -> None:
    shutil.copytree(roomy_onnx, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").unlink()
    model = Model(tmp_path / "model", 1, 4)
    assert said(model, asked("a"))[1].prompt_tokens == 1
    with pytest.raises(Refused, match="no chat template: it goes on with one message, and there are 3"):
        said(model, asked("a", "b", "c"))
    with pytest.raises(Refused, match="the prompt is empty"):
        said(model, asked(""))


def test_what_does_not_load_says_so(roomy_onnx: Path, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="does not load"):
        Model(tmp_path, 1, 1)
    shutil.copytree(roomy_onnx, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text("{{ raise_exception('no such role') }}")
    with pytest.raises(Unusable, match=r"chat template in .* can't be rendered: .*no such role"):
        Model(tmp_path / "model", 1, 1)
    (tmp_path / "model" / "chat_template.jinja").write_text("{% if %}")
    with pytest.raises(Unusable, match=r"chat template in .* can't be rendered: "):
        Model(tmp_path / "model", 1, 1)


def test_a_folder_that_speculates_says_the_same_and_its_chats_go_on(roomy_onnx: Path, tmp_path: Path) -> None:
    shutil.copytree(roomy_onnx, tmp_path / "model")
    path = tmp_path / "model" / "genai_config.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "speculative": {"ngram_size": 2, "max_draft_tokens": 4}})
    )
    plain, guessing = Model(roomy_onnx, 1, 60), Model(tmp_path / "model", 1, 60)
    question = "The river is wide. The boat is old. " * 9
    for request in (
        asked(question),
        asked(question, "Yes.", "And the boat?"),
        asked(question, seed=3, temperature=0.0),
    ):
        (text, finished), (guessed, other) = said(plain, request), said(guessing, request)
        assert (guessed, other) == (text, finished)


@pytest.mark.parametrize(
    ("asked", "loads"), [([{"cuda": {}}], ["libraries", "model"]), ([{"cpu": {}}], ["model"]), (None, ["model"])]
)
def test_cudas_libraries_are_loaded_before_a_model_that_asks_for_cuda(
    asked: list[Any] | None, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(folder: str) -> None:
        loaded.append("model")
        raise RuntimeError("no device")

    preload = SimpleNamespace(preload_dlls=lambda: loaded.append("libraries"))
    monkeypatch.setitem(sys.modules, "onnxruntime", preload)
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", SimpleNamespace(Model=load))
    config = {"model": {"decoder": {"session_options": {"provider_options": asked}}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(Unusable, match="does not load: no device"):
        Model(tmp_path, 1, 8)
    assert loaded == loads
