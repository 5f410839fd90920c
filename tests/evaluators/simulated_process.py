"""Model processes that are made up: no child process, no real time."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from olivine.evaluators.process.messages import Loaded, OutputScore, ProcessStats, Timing, WindowScore


class Machine:
    """Simulated time: slow drift by tens of percent, and interference that only ever adds time."""

    def __init__(self, seed: int, noise: float = 1.0, luck: float = 0.0) -> None:
        self.luck = luck  # standard deviation of what a process keeps for its life
        self.apart = False  # whether the host runs the cores on two chips
        self.rng = np.random.default_rng(seed)
        self.now = 0.0
        self.noise = noise
        self.phase = self.rng.uniform(0, 2 * np.pi)

    def spend(self, work_ms: float) -> float:
        drift = 1 + 0.3 * self.noise * np.sin(self.phase + self.now / 7)
        jitter = np.exp(0.02 * self.noise * self.rng.normal())
        burst = 1 + self.noise * self.rng.exponential(0.5) * (self.rng.random() < 0.2)
        ms = float(work_ms * drift * jitter * burst)
        self.now += ms / 1e3
        return ms


class SimulatedProcess:
    """A process whose model takes so many milliseconds of simulated time.

    It is scored and compared as well: worse than a perfect base by ``worse`` nats a token, with some noise.
    """

    vocab_size = 100
    usable = True
    loop = "genai"
    python = sys.executable
    adapter = None
    timeout_s = 60.0
    memory_limit_bytes = None

    def __init__(
        self, machine: Machine, prefill_ms: float, step_ms: float, apart: float = 1.0, worse: float = 0.0
    ) -> None:
        self.machine, self.prefill_ms, self.step_ms = machine, prefill_ms, step_ms
        self.worse = worse
        self.folder: Path | None = None
        self.loaded = Loaded(500.0, "CPUExecutionProvider", 2, self.vocab_size, {"onnxruntime": "1.31.1"})
        self.apart = apart  # how many times as long it takes where the cores are apart
        self.prompts: list[list[int]] = []
        self.processes = 0
        self.threads = 2
        self.pinned: list[set[int]] = []
        self.held: list[int] = []
        self.room = 1000
        self.load_seconds = 0.5
        self.restart()
        self.cold = 3.0

    def prefill(self, tokens: Sequence[int], room: int = 64) -> Timing:
        self.prompts.append(list(tokens))
        self.cold = max(1.0, self.cold - 1.0)  # the first visits of a process are slower
        return Timing([self._spend(self.prefill_ms * self.cold)], 0.0)

    def decode(self, steps: int) -> Timing:
        return Timing([self._spend(self.step_ms) for _ in range(steps)], 0.0)

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        return Timing([self._spend(self.step_ms * (1 + number)) for _ in range(times)], 0.0)

    def stats(self) -> ProcessStats:
        return ProcessStats(80_000_000, 90_000_000, scored=False)

    def reset_peak(self) -> bool:
        return True

    def reference(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int) -> None:
        arrays = {f"nll_{number}": np.full(scored, 3.0) for number, (_, scored) in enumerate(windows)}
        np.savez(path, allow_pickle=False, **arrays)  # type: ignore[arg-type] # its other argument is a bool

    def score(self, path: Path, window: int) -> WindowScore:
        with np.load(path) as stored:
            base = stored[f"nll_{window}"]
        own = base + self._noise(window, len(base))
        return WindowScore(float(own.sum()), len(own), kl=0.01 * len(own), agree=len(own) - 1, finite=True)

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        arrays = {str(number): self._row(number) for number in range(count)}
        np.savez(path, allow_pickle=False, **arrays)  # type: ignore[arg-type] # its other argument is a bool

    def compare(
        self, feeds: Path, number: int, stored: Path, output: str | None, logits: bool, apart: bool = False
    ) -> OutputScore:
        with np.load(stored) as arrays:
            same = np.array_equal(arrays[str(number)], self._row(number))
        loss = 0.0 if same else 0.01 * (1 + number)
        return OutputScore(1.0 - loss, loss if logits else 0.0, 1.0 - loss if logits else 1.0, finite=True)

    def _row(self, number: int) -> npt.NDArray[np.float64]:
        """[1, 3] logits of a row, of which every third one is of the wrong class in a worse model."""
        correct = number % 3 if not self.worse or number % 3 else 1
        return np.eye(3)[[correct]]

    def _noise(self, seed: int, count: int) -> npt.NDArray[np.float64]:
        if not self.worse:
            return np.zeros(count)
        return np.random.default_rng(seed).normal(self.worse, self.worse / 10, count)

    def _spend(self, work_ms: float) -> float:
        return self.machine.spend(work_ms * self.luck * (self.apart if self.machine.apart else 1.0))

    def reserve(self, tokens: int) -> bool:
        self.held.append(tokens)
        return tokens <= self.room

    def pin(self, cores: Collection[int]) -> None:
        self.pinned.append(set(cores))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def raise_priority(self) -> bool:
        return True

    def restore_priority(self) -> None:
        pass

    def restart(self) -> None:
        self.processes += 1
        self.cold = 1.5
        self.luck = float(np.exp(self.machine.luck * self.machine.rng.normal()))

    def reload(self) -> None:
        self.machine.now += self.load_seconds
