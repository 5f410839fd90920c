"""A packaged tiny model in a process of its own, asked by OpenAI's client for Python."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest

from olivine.search.export.package import fill

CONTEXT = 4096
VERSIONS = {"onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0", "numpy": "2.4.6"}
#: Bytes that a process may grow by when nothing leaks; forty generators of the tiny model take 80 MB.
SLACK_BYTES = 25_000_000


@pytest.fixture(scope="module")
def package(roomy_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``olivine export --package docker`` writes of a model, its card left out."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(roomy_onnx, folder / "model")
    (folder / "model" / "olivine.json").write_text(json.dumps({"versions": VERSIONS, "model": {"name": "org/tiny"}}))
    fill(folder, "docker", "cpu")
    return folder


class Running:
    """A packaged model that serves."""

    def __init__(self, package: Path, *words: str) -> None:
        command = [sys.executable, str(package / "run.py"), "--serve", "0", *words]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.url = self.line.split()[-1]
        self.usage = psutil.Process(self.process.pid)
        self.client = openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=120)

    def ask(self, prompt: str, **fields: Any) -> Any:
        messages = [{"role": "user", "content": prompt}]
        return self.client.chat.completions.create(**{"model": "org/tiny", "messages": messages, "seed": 1, **fields})

    def text(self, prompt: str, **fields: Any) -> str:
        return str(self.ask(prompt, **fields).choices[0].message.content)

    def counts(self) -> tuple[int, int, int]:
        with urllib.request.urlopen(self.url.replace("/v1", "/health"), timeout=60) as response:
            said = json.load(response)
        return said["answering"], said["waiting"], said["generators"]

    def until_idle(self, generators: int) -> None:
        """Wait until nothing is answered, and at most so many generators are kept for the next turn of a chat."""
        pause = threading.Event()
        for _ in range(600):
            answering, waiting, kept = self.counts()
            if answering == waiting == 0 and kept <= generators:
                return
            pause.wait(0.1)
        raise AssertionError(self.counts())


@pytest.fixture
def running(package: Path) -> Iterator[Running]:
    made = Running(package)
    yield made
    made.client.close()
    made.process.send_signal(signal.SIGTERM)
    out, _ = made.process.communicate(timeout=60)
    assert (made.process.returncode, out) == (0, "stopped\n")


def test_it_streams_what_it_says_at_once_and_counts_its_tokens(running: Running) -> None:
    assert running.line.startswith("serving org/tiny on http://127.0.0.1:")
    wanted: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0}
    cut = running.ask("Where is the boat?", max_tokens=7)
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 7)
    whole = running.ask("The river was green", **wanted)
    chunks = list(running.ask("The river was green", **wanted, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks[:-1]]
    assert "".join(pieces) == whole.choices[0].message.content
    assert len([piece for piece in pieces if piece]) > 5
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_stop_words_end_it_and_seeds_repeat_it(running: Running) -> None:
    prompt, sampled = "The river was green", {"temperature": 1.2, "top_p": 0.95, "max_tokens": 60}
    text = running.text(prompt, **sampled)
    assert running.text(prompt, **sampled) == text != running.text(prompt, **{**sampled, "seed": 2})
    word = text[len(text) // 2 :][:2]
    stopped = running.ask(prompt, **sampled, stop=[word, "not to be found"])
    assert stopped.choices[0].message.content == text.partition(word)[0]
    assert stopped.choices[0].finish_reason == "stop"
    pieces = [chunk.choices[0].delta.content or "" for chunk in running.ask(prompt, **sampled, stop=word, stream=True)]
    assert "".join(pieces) == text.partition(word)[0]


def test_eight_requests_at_once_say_what_each_says_alone_and_leave_nothing(running: Running) -> None:
    prompts = [f"Boat {index} lay in the river" for index in range(8)]
    wanted: dict[str, Any] = {"max_tokens": 80, "temperature": 1.0}
    alone = [running.text(prompt, **wanted) for prompt in prompts]

    def all_at_once() -> list[str]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(lambda prompt: running.text(prompt, **wanted), prompts))

    assert all_at_once() == alone
    running.client.close()
    running.until_idle(generators=0)
    threads, rss = running.usage.num_threads(), running.usage.memory_info().rss
    running.client = openai.OpenAI(base_url=running.url, api_key="none", max_retries=0, timeout=120)
    for _ in range(5):
        assert all_at_once() == alone
    running.until_idle(generators=0)
    assert running.usage.num_threads() <= threads
    assert running.usage.memory_info().rss - rss < SLACK_BYTES


def test_cancelled_requests_free_their_generators_and_connections(running: Running) -> None:
    running.text("Hello", max_tokens=5)
    running.until_idle(generators=0)
    files = running.usage.num_fds()
    # The tiny model may have given its whole answer before anybody notices that its client has left. That generator is
    # kept, as after any answer, but no other.
    for _ in range(3):
        chunks = running.ask("The old boat", max_tokens=CONTEXT, stream=True, seed=None, temperature=0)
        next(iter(chunks))
        chunks.close()
    running.until_idle(generators=2)
    with pytest.raises(openai.APITimeoutError):
        running.ask("The price of bread " * 150, max_tokens=CONTEXT, seed=None, temperature=0, timeout=0.01)
    running.until_idle(generators=2)
    running.text("Hello", max_tokens=5)
    running.client.close()
    running.until_idle(generators=2)
    assert running.usage.num_fds() <= files


def test_a_chat_that_goes_on_computes_its_new_tokens_alone(running: Running) -> None:
    messages = [{"role": "user", "content": "The bank of the river was green and wide. " * 20}]
    first = running.ask("", messages=messages, seed=None, max_tokens=8)
    messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And the boat?"}]
    second = running.ask("", messages=messages, seed=None, max_tokens=8)
    assert first.usage.prompt_tokens_details.cached_tokens == 0
    assert second.usage.prompt_tokens_details.cached_tokens >= first.usage.prompt_tokens
    assert running.counts() == (0, 0, 1)


def test_mistakes_are_openais_errors(running: Running) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'gpt' here; this server has 'org/tiny'"):
        running.ask("a", model="gpt")
    with pytest.raises(openai.BadRequestError, match=r"has \d+ tokens; prompt and answer may have 4096") as caught:
        running.ask("boat " * CONTEXT)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError, match="temperature has to be a number from 0 to 2"):
        running.ask("a", temperature="hot")


def test_the_script_answers_one_prompt_and_refuses_what_is_neither(package: Path) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, str(package / "run.py"), *words], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("Where is the boat?", "--max-new-tokens", "30")
    assert (code, err) == (0, "")
    assert out.endswith("\n")
    assert "give a prompt, or --serve PORT" in run()[2]
    assert run("hello", "--serve", "0")[0] == 2
    assert run("hello", "--max-new-tokens", "0")[0] == 2
    assert "prompt and answer may have 4096 together" in run("boat " * CONTEXT)[2]
    code, _, err = run("hello", "--model", str(package / "nowhere"))
    assert code == 1
    assert "does not load" in err


def test_a_port_that_is_taken_is_told(running: Running, package: Path) -> None:
    port = running.url.removesuffix("/v1").rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, str(package / "run.py"), "--serve", port], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"can't serve on 127.0.0.1:{port}: Address already in use" in done.stderr
