"""The server that a package brings: what it answers and what it refuses, and once the real script with a real model."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from olivine.search.export import serve as standalone
from olivine.search.export.serve import MAX_BODY_BYTES, Refused, Server, main, parse_request


class Echo:
    """Stands for a model: answers with the prompt; the word ``wait`` waits to be let go."""

    longest = 100

    def __init__(self) -> None:
        self.busy, self.go = threading.Event(), threading.Event()

    def answer(self, prompt: str, max_new_tokens: int) -> dict[str, Any]:
        if prompt == "wait":
            self.busy.set()
            assert self.go.wait(60)
        if prompt == "long":
            raise Refused(400, "the prompt has 200 tokens; prompt and answer may have 100")
        if prompt == "fail":
            raise RuntimeError("no memory")
        return {"text": prompt, "prompt_tokens": 1, "new_tokens": max_new_tokens}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Echo()) as made:  # type: ignore[arg-type]
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest(method, path)
    given = {"Content-Length": str(len(body))} if body is not None else {}
    for name, value in (given | {k.replace("_", "-"): v for k, v in headers.items()}).items():
        connection.putheader(name, value)
    connection.endheaders(body)
    response = connection.getresponse()
    said = json.loads(response.read())
    connection.close()
    return response.status, said


def post(server: Server, given: object) -> tuple[int, dict[str, Any]]:
    return ask(server.server_address[1], "POST", "/generate", json.dumps(given).encode())


def test_it_is_healthy_and_answers(server: Server) -> None:
    assert ask(server.server_address[1], "GET", "/health") == (200, {"status": "ok", "context_tokens": 100})
    answer = {"text": "Où?", "prompt_tokens": 1, "new_tokens": 7}
    assert post(server, {"prompt": "Où?", "max_new_tokens": 7}) == (200, answer)
    assert post(server, {"prompt": "a"})[1]["new_tokens"] == standalone.DEFAULT_NEW_TOKENS


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "said"),
    [
        ("GET", "/", {}, 404, "POST /generate"),
        ("POST", "/v1/chat", {"Content_Length": "0"}, 404, "POST /generate"),
        ("GET", "/generate", {}, 405, "takes POST"),
        ("POST", "/health", {"Content_Length": "0"}, 405, "takes GET"),
        ("POST", "/generate", {}, 411, "no Content-Length"),
        ("POST", "/generate", {"Content_Length": "-1"}, 400, "no number"),
        ("POST", "/generate", {"Content_Length": "9" * 40}, 400, "no number"),
        ("POST", "/generate", {"Content_Length": str(MAX_BODY_BYTES + 1)}, 413, f"at most {MAX_BODY_BYTES}"),
        ("POST", "/generate", {"Content_Length": "0"}, 400, "no JSON"),
    ],
)
def test_other_requests_are_told_what_fits(
    server: Server, method: str, path: str, headers: dict[str, str], status: int, said: str
) -> None:
    found = ask(server.server_address[1], method, path, **headers)
    assert found[0] == status
    assert said in found[1]["error"]


def test_what_the_model_refuses_or_fails_at_is_told_and_the_server_goes_on(server: Server) -> None:
    assert post(server, {"prompt": "long"})[0] == 400
    assert post(server, {"prompt": "fail"}) == (500, {"error": "the model failed: no memory"})
    assert post(server, {"prompt": "a"})[0] == 200


def test_more_than_may_wait_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standalone, "MAX_WAITING", 0)
    model = Echo()
    with Server(("127.0.0.1", 0), model) as made:  # type: ignore[arg-type]
        threading.Thread(target=made.serve_forever, daemon=True).start()
        first: list[int] = []
        waiting = threading.Thread(target=lambda: first.append(post(made, {"prompt": "wait"})[0]))
        waiting.start()
        assert model.busy.wait(60)
        assert post(made, {"prompt": "a"})[0] == 503
        model.go.set()
        waiting.join()
        made.shutdown()
    assert first == [200]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "JSON list"),
        (b"{}", "not empty"),
        (b'{"prompt": " "}', "not empty"),
        (b'{"prompt": 1}', "not empty"),
        (b'{"prompt": "a", "temperature": 1}', "unknown: temperature"),
        (b'{"prompt": "a", "max_new_tokens": 0}', "at least 1"),
        (b'{"prompt": "a", "max_new_tokens": true}', "at least 1"),
        (b'{"prompt": "a", "max_new_tokens": 1.5}', "at least 1"),
        (b'{"prompt": "\\ud800"}', "half a character"),
        (b'{"prompt": "a\\u0000b"}', "null character"),
    ],
)
def test_a_body_that_is_no_request_says_why(body: bytes, said: str) -> None:
    with pytest.raises(Refused, match=said) as caught:
        parse_request(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("words", [[], ["hello", "--serve", "0"], ["hello", "--max-new-tokens", "0"]])
def test_a_wrong_command_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2


def test_the_script_alone_serves_a_model_and_stops_at_a_signal(tiny_onnx: Path) -> None:
    command = [sys.executable, standalone.__file__, "--serve", "0", "--model", str(tiny_onnx)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        assert ask(port, "GET", "/health")[0] == 200
        status, said = ask(port, "POST", "/generate", b'{"prompt": "Where is the boat?", "max_new_tokens": 4}')
        assert (status, type(said["text"])) == (200, str)
        assert 1 <= said["new_tokens"] <= 4
        long = json.dumps({"prompt": "boat " * 500}).encode()
        assert "tokens; prompt and answer may have 256" in ask(port, "POST", "/generate", long)[1]["error"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_the_script_answers_one_prompt(tiny_onnx: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["Where is the boat?", "--max-new-tokens", "3", "--model", str(tiny_onnx)]) == 0
    assert capsys.readouterr().out.endswith("\n")
