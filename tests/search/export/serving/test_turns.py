"""Answers side by side: fair turns, and nothing that ends, fails or is cancelled stays."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator

import pytest

from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.errors import Refused
from olivine.search.export.serving.model import Finished, Piece, Step
from olivine.search.export.serving.turns import Event, Turns


class Spelled:
    """Stands for a model: spells each prompt, a letter a step; ``!`` fails, ``?`` refuses, ``.`` ends.

    Attributes:
        go: lets one step happen for each release; None where nothing waits.
        ended: prompts whose answer was left, in order.
    """

    def __init__(self, gated: bool = False) -> None:
        self.go = threading.Semaphore(0) if gated else None
        self.caches: list[str] = []
        self.ended: queue.Queue[str] = queue.Queue()

    def answer(self, request: ChatRequest) -> Generator[Step, None, None]:
        prompt = request.messages[0]["content"]
        self.caches.append(prompt)
        try:
            for letter in prompt:
                if self.go is not None:
                    assert self.go.acquire(timeout=60)
                if letter == "!":
                    raise RuntimeError("no memory")
                if letter == "?":
                    raise Refused(400, "too long")
                yield Piece(letter) if letter != " " else None
        finally:
            self.caches.remove(prompt)
            self.ended.put(prompt)
        yield Finished("stop", 1, 0, len(prompt))


class Told:
    """What was told of several requests, in one order."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, Event]] = queue.Queue()

    def start(self, turns: Turns, prompt: str) -> object:
        request = ChatRequest(({"role": "user", "content": prompt},))
        return turns.start(request, lambda event: self.events.put((prompt, event)))

    def next(self) -> tuple[str, object]:
        prompt, event = self.events.get(timeout=60)
        return prompt, event.text if isinstance(event, Piece) else event


@pytest.fixture
def gated() -> Iterator[tuple[Spelled, Turns, Told]]:
    """A model whose steps are let go one by one, with places for two answers and two that wait."""
    model = Spelled(gated=True)
    turns = Turns(model, at_once=2, most_waiting=2)  # type: ignore[arg-type]
    yield model, turns, Told()
    assert model.go is not None
    for _ in range(100):
        model.go.release()
    turns.close()
    assert not model.caches
    assert "model" not in [thread.name for thread in threading.enumerate()]


def wait_for(turns: Turns, **counts: int) -> None:
    """Wait until the model's thread has come to these counts."""
    reached = threading.Event()
    for _ in range(6000):
        if turns.counts().items() >= counts.items():
            return
        reached.wait(0.01)
    raise AssertionError(turns.counts())


def test_two_answers_get_one_step_each_in_turn_and_the_third_waits(gated: tuple[Spelled, Turns, Told]) -> None:
    model, turns, told = gated
    told.start(turns, "aaa")
    wait_for(turns, answering=1)
    told.start(turns, "bb")
    told.start(turns, "c")
    assert model.go is not None
    model.go.release()  # the first step was begun alone
    assert told.next() == ("aaa", "a")
    for _ in range(5):
        model.go.release()
    order = [told.next() for _ in range(7)]
    letters = [(prompt, said) for prompt, said in order if isinstance(said, str)]
    assert letters == [("aaa", "a"), ("bb", "b"), ("aaa", "a"), ("bb", "b"), ("c", "c")]
    assert order.index(("bb", Finished("stop", 1, 0, 2))) < order.index(("c", "c"))
    assert told.next() == ("c", Finished("stop", 1, 0, 1))
    wait_for(turns, answering=0, waiting=0, generators=0)


def test_a_cancelled_answer_makes_no_further_step_and_frees_its_generator(gated: tuple[Spelled, Turns, Told]) -> None:
    model, turns, told = gated
    ticket = told.start(turns, "abcdefgh")
    assert model.go is not None
    model.go.release()
    assert told.next() == ("abcdefgh", "a")
    turns.cancel(ticket)  # type: ignore[arg-type]
    model.go.release()  # the step that was under way
    assert model.ended.get(timeout=60) == "abcdefgh"
    wait_for(turns, answering=0, generators=0)
    assert told.events.qsize() <= 1
    turns.cancel(ticket)  # type: ignore[arg-type]
    told.start(turns, "x")
    model.go.release()
    assert ("x", "x") in [told.next(), told.next()]


def test_more_than_may_wait_are_refused_and_a_cancelled_one_makes_room(gated: tuple[Spelled, Turns, Told]) -> None:
    _, turns, told = gated
    told.start(turns, "aaa")
    wait_for(turns, answering=1, waiting=0)  # its first step does not end, so nobody else is let in
    waiting = [told.start(turns, "bb"), told.start(turns, "cc")]
    with pytest.raises(Refused, match="2 requests are waiting") as caught:
        told.start(turns, "dd")
    assert caught.value.status == 503
    turns.cancel(waiting[0])  # type: ignore[arg-type]
    assert turns.counts()["waiting"] == 1
    told.start(turns, "ee")


def test_an_answer_that_fails_or_is_refused_says_so_and_the_others_go_on() -> None:
    model, told = Spelled(), Told()
    turns = Turns(model, at_once=3, most_waiting=9)  # type: ignore[arg-type]
    for prompt in ("a!", "b?", "c d"):
        told.start(turns, prompt)
    events = [told.next() for _ in range(7)]
    ends = {prompt: event for prompt, event in events if not isinstance(event, str)}
    turns.close()
    assert {prompt: str(event) for prompt, event in ends.items() if isinstance(event, Refused)} == {
        "a!": "the model failed: no memory",
        "b?": "too long",
    }
    assert ends["c d"] == Finished("stop", 1, 0, 3)
    assert "".join(str(said) for prompt, said in events if prompt == "c d" and isinstance(said, str)) == "cd"
    assert not model.caches


def test_a_stop_ends_answers_and_those_that_wait_and_lets_no_other_begin(gated: tuple[Spelled, Turns, Told]) -> None:
    model, turns, told = gated
    told.start(turns, "aaa")
    wait_for(turns, answering=1, waiting=0)  # its first step does not end, so nobody else is let in
    told.start(turns, "bb")
    turns.stop()
    ends = [told.next() for _ in range(2)]
    assert [prompt for prompt, _ in ends] == ["aaa", "bb"]
    assert [(end.status, str(end)) for _, end in ends if isinstance(end, Refused)] == [(503, "the server stops")] * 2
    with pytest.raises(Refused, match="the server stops"):
        told.start(turns, "c")
    assert model.go is not None
    model.go.release()  # the step that was under way
    wait_for(turns, answering=0, waiting=0, generators=0)
    turns.stop()
    assert told.events.empty()


@pytest.mark.parametrize("prompt", ["ab", "!", "?"])
def test_the_others_go_on_where_nobody_can_be_told_any_more(prompt: str) -> None:
    """As where the event loop has closed: of a piece, a failure and a refusal."""
    model, told = Spelled(), Told()
    turns = Turns(model, at_once=2, most_waiting=9)  # type: ignore[arg-type]

    def closed(event: Event) -> None:
        raise RuntimeError("Event loop is closed")

    ticket = turns.start(ChatRequest(({"role": "user", "content": prompt},)), closed)
    assert model.ended.get(timeout=60) == prompt
    told.start(turns, "c")
    assert [told.next(), told.next()] == [("c", "c"), ("c", Finished("stop", 1, 0, 1))]
    turns.close()
    assert ticket.cancelled
    assert not model.caches
