"""The web server before a stand-in for a model: OpenAI's objects, and clients that leave."""

from __future__ import annotations

import http.client
import json
import queue
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import openai
import pytest

from olivine.search.export.serving import server as web
from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.errors import Refused
from olivine.search.export.serving.model import Finished, Piece, Step
from olivine.search.export.serving.turns import Turns


class Echo:
    """Stands for a model: says the prompt's words; ``wait`` waits to be let go, ``fail`` fails, ``long`` is refused.

    Attributes:
        go: lets ``wait`` go on.
        left: prompts whose answer was left before its end.
    """

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.left: queue.Queue[str] = queue.Queue()
        self.caches: list[str] = []

    def answer(self, request: ChatRequest) -> Generator[Step, None, None]:
        prompt, whole = request.messages[-1]["content"], False
        words = prompt.split(" ")
        try:
            for word in words:
                if word == "wait":
                    assert self.go.acquire(timeout=60)
                if word == "long":
                    raise Refused(400, "too long", "messages", "context_length_exceeded")
                if word == "fail":
                    raise RuntimeError("no memory")
                yield Piece(f"{word} ")
            whole = True
        finally:
            if not whole:
                self.left.put(prompt)
        yield Finished("stop", 3, 2, len(words))


class Served:
    """A server in a thread of this process."""

    def __init__(self, model: Echo, most_waiting: int) -> None:
        self.model = model
        self.turns = Turns(model, at_once=1, most_waiting=most_waiting)  # type: ignore[arg-type]
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        app = web.make_app(self.turns, ("org/echo",), 100, ("127.0.0.1",))
        self._server = web.Server(app, self.turns, "critical")
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listening]})
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True

    def close(self) -> None:
        self.stop()
        for _ in range(100):
            self.model.go.release()
        self._thread.join()
        self._listening.close()
        self.turns.close()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, json.loads(content) if content.startswith(b"{") else content.decode()

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0, timeout=60)


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served(Echo(), most_waiting=1)
    yield made
    made.close()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    pause = threading.Event()
    for _ in range(6000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen")


def messages(prompt: str) -> list[Any]:
    return [{"role": "user", "content": prompt}]


def test_a_whole_answer_and_a_streamed_one_say_the_same(served: Served) -> None:
    with served.client() as client:
        whole = client.chat.completions.create(model="org/echo", messages=messages("Où est là"))
        assert whole.choices[0].message.content == "Où est là "
        assert whole.choices[0].finish_reason == "stop"
        assert whole.usage is not None
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (3, 3, 6)
        assert whole.usage.prompt_tokens_details is not None
        assert whole.usage.prompt_tokens_details.cached_tokens == 2
        wanted: dict[str, Any] = {"model": "org/echo", "messages": messages("Où est là"), "stream": True}
        chunks = list(client.chat.completions.create(**wanted, stream_options={"include_usage": True}))
        deltas = [chunk.choices[0].delta for chunk in chunks[:-1]]
        assert deltas[0].role == "assistant"
        assert [delta.content for delta in deltas] == ["", "Où ", "est ", "là ", None]
        assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * 4 + ["stop"]
        assert (chunks[-1].choices, chunks[-1].usage) == ([], whole.usage)
        assert len({chunk.id for chunk in chunks}) == 1
        assert all(chunk.usage is None for chunk in client.chat.completions.create(**wanted))


def test_the_one_model_is_listed_and_another_is_not_found(served: Served) -> None:
    with served.client() as client:
        assert [model.id for model in client.models.list()] == ["org/echo"]
        assert client.models.retrieve("org/echo").owned_by == "olivine"
        with pytest.raises(openai.NotFoundError, match="no model 'gpt' here; this server has 'org/echo'"):
            client.models.retrieve("gpt")
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="gpt", messages=messages("a"))
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_refuses_or_fails_at_has_its_status_and_the_server_goes_on(served: Served, stream: bool) -> None:
    with served.client() as client:
        with pytest.raises(openai.BadRequestError, match="too long") as caught:
            client.chat.completions.create(model="org/echo", messages=messages("long"), stream=stream)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.InternalServerError, match="the model failed: no memory"):
            client.chat.completions.create(model="org/echo", messages=messages("fail"), stream=stream)
        with pytest.raises(openai.APIError, match="the model failed: no memory"):  # after text was sent
            answer = client.chat.completions.create(model="org/echo", messages=messages("a fail"), stream=stream)
            list(answer)
        assert client.chat.completions.create(model="org/echo", messages=messages("a")).choices


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_answer(served: Served, stream: bool) -> None:
    body = json.dumps({"messages": messages("a wait b"), "stream": stream}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    connection.request("POST", "/v1/chat/completions", body)
    if stream:
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        response.close()
    else:
        until(lambda: served.turns.counts()["answering"] == 1)
    connection.close()
    ticket = next(iter(served.turns._answering))
    until(lambda: ticket.cancelled)
    served.model.go.release()  # the step that was under way
    assert served.model.left.get(timeout=60) == "a wait b"


def test_a_client_that_leaves_while_it_waits_gives_up_its_place_and_more_than_may_wait_are_sent_away(
    served: Served,
) -> None:
    with served.client() as client, served.client() as second:
        first = client.chat.completions.create(model="org/echo", messages=messages("a wait"), stream=True)
        next(iter(first))
        with pytest.raises(openai.APITimeoutError):
            second.chat.completions.create(model="org/echo", messages=messages("b"), timeout=0.5)
        until(lambda: served.turns.counts()["waiting"] == 0)
        waiting = threading.Thread(
            target=lambda: client.chat.completions.create(model="org/echo", messages=messages("c"))
        )
        waiting.start()
        until(lambda: served.turns.counts()["waiting"] == 1)
        with pytest.raises(openai.InternalServerError, match="1 requests are waiting already") as caught:
            second.chat.completions.create(model="org/echo", messages=messages("d"))
        assert caught.value.status_code == 503
        served.model.go.release()
        waiting.join()
        first.close()


def test_a_stop_ends_each_answer_with_an_error_and_cuts_none_off(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "GRACE_S", 0)
    streamed, whole = (http.client.HTTPConnection("127.0.0.1", served.port, timeout=60) for _ in range(2))
    streamed.request("POST", "/v1/chat/completions", json.dumps({"messages": messages("a wait b"), "stream": True}))
    stream = streamed.getresponse()
    assert stream.readline().startswith(b"data: ")
    whole.request("POST", "/v1/chat/completions", json.dumps({"messages": messages("c")}))
    until(lambda: served.turns.counts()["waiting"] == 1)
    served.stop()
    answer = whole.getresponse()
    assert (answer.status, json.load(answer)["error"]["message"]) == (503, "the server stops")
    last = stream.read().split(b"data: ")[-1]
    assert json.loads(last)["error"]["message"] == "the server stops"
    streamed.close()
    whole.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "said"),
    [
        ("GET", "/", None, {}, 404, "GET /: Not Found; POST /v1/chat/completions and"),
        ("GET", "/v1/chat/completions", None, {}, 405, "Method Not Allowed"),
        ("POST", "/v1/chat/completions", b"", {}, 400, "no JSON"),
        ("POST", "/v1/chat/completions", b" " * (web.MAX_BODY_BYTES + 1), {}, 413, "more than 4000000 bytes"),
        ("GET", "/health", None, {"Host": "example.org"}, 400, "Invalid host header"),
    ],
)
def test_other_requests_are_told_what_fits(
    served: Served, method: str, path: str, body: bytes | None, headers: dict[str, str], status: int, said: str
) -> None:
    found = served.ask(method, path, body, **headers)
    assert found[0] == status
    assert said in (found[1] if isinstance(found[1], str) else found[1]["error"]["message"])


def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_S", 0.01)
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as sent:
        sent.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{")
        assert sent.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_it_is_healthy(served: Served) -> None:
    counts = {"answering": 0, "waiting": 0, "generators": 0}
    assert served.ask("GET", "/health") == (200, {"status": "ok", "context_tokens": 100, **counts})
