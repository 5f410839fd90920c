"""Process: a loaded model in a process of its own, and the pipe to it.

The study process loads no model. Whatever a model does to its process (crash, hang, eat the memory) costs
that process alone, and arrives here as one error that says what happened.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from olivine.evaluators.process import scheduling
from olivine.evaluators.process.bootstrap import child_command
from olivine.evaluators.process.lifecycle import close_pipes, end_group, how_it_ended, told_starter
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.evaluators.process.messages import (
    Done,
    Endings,
    Loaded,
    OutputScore,
    ProcessStats,
    Text,
    Timing,
    Tokens,
    WindowScore,
    Written,
    read,
)
from olivine.evaluators.providers.session import CPU, folder_provider
from olivine.passes.errors import Excess, OlivineError, last_words, out_of_memory, unwritable
from olivine.passes.store.atomic_files import aside
from olivine.passes.store.secrets import masked, without_secrets

#: What runs a model; see :meth:`ModelProcess.start`.
Loop = Literal["genai", "session", "graph"]
FailureKind = Literal["crash", "timeout", "memory", "error", "provider"]
_Answer = TypeVar("_Answer")

#: Exit code of the child when the asked provider is not the one that would run; see arm_server.
EXIT_PROVIDER = 3
TAIL_CHARACTERS = 2000


class ModelProcessFailed(OlivineError):
    """A model process that died, hung, outgrew its memory or refused.

    Attributes:
        kind: ``crash`` (a signal), ``timeout``, ``memory``, ``provider`` (the asked execution provider does
            not run there) or ``error`` (an exception, or an answer that is no answer).
        tail: the last that the process wrote to stderr; the message has its last line.
        excess: the memory for which it was ended, if that is why.
    """

    def __init__(self, kind: FailureKind, message: str, tail: str = "", excess: Excess | None = None) -> None:
        last = last_words(tail)
        super().__init__(f"{message}: {last}" if last else message)
        self.kind: FailureKind = kind
        self.tail = tail
        self.excess = excess


class ModelProcess:
    """A model process; make one with :meth:`start` (the model comes later) or :meth:`open`."""

    def __init__(self, process: subprocess.Popen[bytes], stderr: Any, timeout_s: float, limit: int | None) -> None:
        self._process = process
        self._stderr = stderr
        self._timeout_s = timeout_s
        self._memory = MemoryWatch.start(process.pid, limit)
        self._buffer = b""
        self._requests = 0
        self._paused = False
        self._closed = False
        self._holds_model = False
        self._options: dict[str, Any] = {}
        self.load_seconds = 0.0
        self.folder: Path | None = None
        self.loaded: Loaded | None = None

    @classmethod
    def start(
        cls,
        python: str | Path = sys.executable,
        timeout_s: float = 300.0,
        memory_limit_bytes: int | None = None,
        loop: Loop = "genai",
    ) -> ModelProcess:
        """Start a process that imports its libraries at once and waits for a model.

        It ends with the thread that starts it.

        Args:
            python: the interpreter; each flavour of ONNX Runtime needs an environment of its own.
            timeout_s: longest wait for the answer to one request; the process is killed after it.
            memory_limit_bytes: the process is killed when its resident set outgrows this.
            loop: what runs the model: ONNX Runtime GenAI, or the same loop in a plain session where the interpreter
                can't hold GenAI beside its ONNX Runtime; ``graph`` for a graph that is no decoder.
        """
        stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process; closed in close()
        child = subprocess.Popen(
            child_command(python, "process.server", *([] if loop == "genai" else [loop])),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            env={**without_secrets(os.environ), **scheduling.STEADY_MEMORY, **told_starter()},
        )
        process = cls(child, stderr, timeout_s, memory_limit_bytes)
        process._options = {
            "python": python,
            "timeout_s": timeout_s,
            "memory_limit_bytes": memory_limit_bytes,
            "loop": loop,
        }
        return process

    @classmethod
    def open(cls, folder: Path, **options: Any) -> ModelProcess:
        """Start a process and load ``folder``; the options are those of :meth:`start`."""
        process = cls.start(**options)
        try:
            process.load(folder)
        except BaseException:
            process.close()
            raise
        return process

    @property
    def pid(self) -> int:
        """Process id of the child, which leads a process group of the same id."""
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Whether it can take a request: also one that waits for a first model, but not one that has lost its own."""
        return not self._closed and self.alive and (self.folder is None or self._holds_model)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def vocab_size(self) -> int:
        """Number of token ids of the loaded model."""
        if self.loaded is None:
            raise ModelProcessFailed("error", "A model process without a model has no vocabulary; load one first")
        return self.loaded.vocab_size

    def load(self, folder: Path) -> Loaded:
        """Load the ONNX Runtime GenAI model in ``folder``; a process holds one model in its life.

        Raises:
            ModelProcessFailed: of kind ``provider`` when the provider that genai_config.json asks for would not run.
        """
        self.folder = Path(folder)
        started = time.monotonic()
        self.loaded = self._told(Loaded, "load", folder=str(self.folder.resolve()))
        self.load_seconds = time.monotonic() - started
        self._holds_model = True
        return self.loaded

    def restart(self) -> None:
        """Start a fresh process in place of this one; :meth:`reload` gives it the model back.

        A process has luck with where its memory and its code lie, for as long as it lives; a fresh one has new luck.
        """
        self.close()
        fresh = ModelProcess.start(**self._options)
        self._process, self._stderr, self._memory, self._buffer = fresh._process, fresh._stderr, fresh._memory, b""
        self._requests, self._paused, self._closed, self._holds_model = 0, False, False, False

    def reload(self) -> None:
        """Load the folder of the process before :meth:`restart`.

        Raises:
            ModelProcessFailed: as :meth:`load`; also when there was no folder.
        """
        if self.folder is None:
            raise ModelProcessFailed("error", "A model process that never held a model can't load it again")
        self.load(self.folder)

    def reserve(self, tokens: int) -> bool:
        """Hold memory for the logits of prompts of so many tokens, so that none waits for it; 0 gives it back.

        Returns:
            Whether all of it is held: at most half of what the process may still take is, and nothing on a GPU.
        """
        return self._told(Done, "reserve", tokens=tokens, most=self._memory.room() // 2).done

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        """Run a prompt to its first new token, on a fresh cache; one time.

        Args:
            tokens: token ids of the prompt.
            room: new tokens that the cache holds beyond the prompt.
        """
        return self._timed("prefill", 1, tokens=[int(t) for t in tokens], room=room)

    def decode(self, steps: int) -> Timing:
        """Generate ``steps`` more tokens after :meth:`prefill` or the last decode; one time each."""
        return self._timed("decode", steps, steps=steps)

    @property
    def threads(self) -> int:
        """Threads of the loaded model, 0 for as many as there are cores; one where its folder does not say."""
        if self.loaded is None or self.loaded.threads is None:
            return 1
        return self.loaded.threads

    def keep_on(self, cores: Collection[int]) -> None:
        """Let the thread that answers run on these cores alone: with one thread, the whole model."""
        scheduling.keep_on(self.pid, cores)

    def pause(self) -> None:
        """Let the process stand still until it is asked something, or :meth:`resume`.

        ONNX Runtime's threads spin for some 30 ms after their last work, and would take the cores from whoever
        is measured next.
        """
        if self.alive and not self._paused:
            scheduling.stop(self.pid)
            self._paused = True

    def resume(self) -> None:
        """Let it run again."""
        if self.alive and self._paused:
            scheduling.go_on(self.pid)
        self._paused = False

    def hurry(self, first: bool) -> bool:
        """Let the process go before other programs, or no longer; whether the system let us."""
        return scheduling.set_niceness(self.pid, scheduling.FIRST if first else scheduling.USUAL)

    def tokenize(self, text: str) -> list[int]:
        """Token ids as the model's own GenAI tokenizer gives them."""
        return self._told(Tokens, "tokenize", text=text).tokens

    def generate(self, prompt: str, max_new_tokens: int) -> str:
        """The model's greedy continuation of ``prompt``."""
        return self._told(Text, "generate", prompt=prompt, max_new_tokens=max_new_tokens).text

    def write(
        self, tokens: Sequence[int], max_new_tokens: int, enough: Callable[[list[int]], bool], steps: int = 16
    ) -> list[int]:
        """The model's greedy continuation of a prompt, in token ids; an end token may be its last.

        Args:
            tokens: token ids of the prompt.
            max_new_tokens: most tokens to write.
            enough: asked every ``steps`` tokens, with all that are written; true ends it.
            steps: tokens of one request.
        """
        self._told(Done, "begin", tokens=[int(t) for t in tokens], room=max_new_tokens)
        written: list[int] = []
        done = max_new_tokens < 1
        while not done and not enough(written):
            piece = self._told(Written, "more", steps=steps)
            written += piece.tokens
            done = piece.done
        return written

    def endings(self, tokens: Sequence[int], endings: Sequence[Sequence[int]]) -> Endings:
        """How likely a model finds endings, each of which the last positions of one prompt predict.

        Args:
            tokens: token ids of context and ending together, without the ending's last token.
            endings: token ids of endings that differ in their last token at most, but may start at different places.

        Raises:
            ModelProcessFailed: of kind ``error`` when a logit is not finite.
        """
        plain = [[int(t) for t in ending] for ending in endings]
        found = self._told(Endings, "endings", tokens=[int(t) for t in tokens], endings=plain)
        if not len(found.logp) == len(found.greedy) == len(plain):
            raise self._kill("error", f"answered 'endings' for {len(found.logp)} of {len(plain)} endings")
        return found

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        """Run every window and store what a candidate is compared with, in ``path`` (.npz; whole or absent).

        Args:
            windows: token ids of each window, and how many of its last tokens are scored.
            path: the file to write.
            top_k: how many of the likeliest tokens are kept per position.

        Raises:
            ModelProcessFailed: of kind ``error`` when a logit is not finite: such a model can't be a reference.
        """
        plain = [[list(tokens), scored] for tokens, scored in windows]
        seconds = self._timeout_s * max(1, len(plain))
        with aside(path) as temporary:
            self._ask("reference", timeout_s=seconds, windows=plain, path=str(temporary), top_k=top_k)

    def score(self, path: Path, window: int) -> WindowScore:
        """Score one window of a file that :meth:`reference` wrote."""
        return self._told(WindowScore, "score", path=str(path), window=window)

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        """Run a graph that is no decoder on one feed of a file; one time a run.

        Args:
            feeds: .npz with each array under ``number/input``.
            number: of the feed.
            times: runs.
        """
        return self._timed("run", times, feeds=str(feeds), number=number, runs=times)

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        """Store a graph's output for the first ``count`` feeds, to compare with, in ``path`` (.npz; whole or absent).

        Raises:
            ModelProcessFailed: of kind ``error`` when the graph has no such output, or it is not finite.
        """
        with aside(path) as temporary:
            self._ask("outputs", feeds=str(feeds), count=count, path=str(temporary), output=output)

    def compare(self, feeds: Path, number: int, stored: Path, output: str | None, logits: bool) -> OutputScore:
        """How near a graph's output is to one that :meth:`outputs` stored."""
        return self._told(
            OutputScore, "compare", feeds=str(feeds), number=number, stored=str(stored), output=output, logits=logits
        )

    def reset_peak(self) -> bool:
        """Let the peak start anew from what is resident now; False where the kernel does not allow it."""
        return self._told(Done, "reset_peak").done

    def stats(self) -> ProcessStats:
        """Memory of the process."""
        return self._told(ProcessStats, "stats")

    def close(self) -> None:
        """Kill the process and everything it started; nothing is left behind."""
        if self._closed:
            return
        self._closed = True
        end_group(self._process)
        self._memory.close()
        close_pipes(self._process.stdin, self._process.stdout, self._stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _told(self, kind: type[_Answer], command: str, **arguments: Any) -> _Answer:
        """Ask, and read the answer; one that is none ends the process."""
        reply = self._ask(command, **arguments)
        try:
            return read(kind, reply)
        except ValueError as error:
            raise self._kill("error", f"answered '{command}' with {error}") from None

    def _timed(self, command: str, times: int, **arguments: Any) -> Timing:
        """Ask for so many times."""
        timing = self._told(Timing, command, **arguments)
        if len(timing.ms) != times or min(timing.ms) <= 0:
            raise self._kill("error", f"answered '{command}' with the times {timing.ms[:8]}, not with {times} above 0")
        return timing

    def _ask(self, command: str, timeout_s: float | None = None, **arguments: Any) -> dict[str, Any]:
        """Send one request and wait for its answer."""
        self.resume()
        self._requests += 1
        line = json.dumps({"id": self._requests, "do": command, **arguments}).encode() + b"\n"
        if self._process.stdin is None or self._process.stdin.closed:
            raise ModelProcessFailed("error", f"{self._name()} is closed; '{command}' was not sent")
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended(command) from None
        answer = self._read_line(command, self._timeout_s if timeout_s is None else timeout_s)
        try:
            reply: dict[str, Any] = json.loads(answer)
        except ValueError:
            raise self._kill("error", f"answered '{command}' with {answer[:200]!r}, which is no JSON") from None
        if not isinstance(reply, dict) or reply.pop("id", None) != self._requests:
            raise self._kill("error", f"answered another request than '{command}'")
        return reply

    def _read_line(self, command: str, timeout_s: float) -> bytes:
        """One line from the child, while its time and memory last."""
        deadline = time.monotonic() + timeout_s
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._kill("timeout", f"did not answer '{command}' within {timeout_s:g} s")
                if selector.select(min(left, self._memory.poll_s)):
                    chunk = os.read(self._process.stdout.fileno(), 1 << 20)
                    if not chunk:
                        raise self._ended(command)
                    self._buffer += chunk
                elif self._process.poll() is not None:  # dead, while one that it started keeps the pipe open
                    raise self._ended(command)
                self._check_memory(command)
        answer, _, self._buffer = self._buffer.partition(b"\n")
        return answer

    def _check_memory(self, command: str) -> None:
        if (excess := self._memory.excess()) is not None:
            raise self._kill("memory", f"was ended in '{command}': it {excess}", excess)

    def _kill(self, kind: FailureKind, what: str, excess: Excess | None = None) -> ModelProcessFailed:
        """End the process and say why."""
        tail = self._tail()
        self.close()
        return ModelProcessFailed(kind, f"{self._name()} {what}", tail, excess)

    def _ended(self, command: str) -> OlivineError:
        """The process has ended by itself: how, from its exit code and its last words."""
        code = self._process.wait()
        tail, excess = self._tail(), self._memory.killed()
        self.close()
        if excess is not None:
            return ModelProcessFailed(
                "memory", f"{self._name()} was ended by the kernel in '{command}': it {excess}", "", excess
            )
        if code == 1 and (trouble := unwritable(OSError(tail))) is not None:
            return trouble
        how = f"{self._name()} {how_it_ended(code)} in '{command}'"
        if not out_of_memory(tail):
            return ModelProcessFailed(
                "crash" if code < 0 else "provider" if code == EXIT_PROVIDER else "error", how, tail
            )
        limit = self._memory.limit
        if limit is None or (self.folder is not None and folder_provider(self.folder) != CPU):
            return ModelProcessFailed("memory", how, tail)  # the machine's memory, or a device's: no limit of ours
        excess = Excess(max(self._memory.peak, limit + 1), limit)
        how += f" for want of memory; its limit is {limit / 1e6:.0f} MB (children.memory)"
        return ModelProcessFailed("memory", how, tail, excess)

    def _tail(self) -> str:
        if self._stderr.closed:
            return ""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - TAIL_CHARACTERS))
        return masked(str(self._stderr.read().decode("utf-8", "replace").strip()))

    def _name(self) -> str:
        return f"The process of model '{self.folder}'" if self.folder else "A model process without a model"
