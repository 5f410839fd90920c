"""Deployed: a model folder as a user runs it, in a process of plain ONNX Runtime GenAI with its own genai_config."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.bootstrap import plain_environment
from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.messages import DeployedRun
from olivine.evaluators.process.protocols import DeployedProcess
from olivine.evaluators.scenario import plain_run
from olivine.evaluators.scenario.context_bytes import context_bytes
from olivine.evaluators.scenario.scenario import Scenario

#: Runs the folder of a process through prompts, with answers of so many tokens.
Run = Callable[[DeployedProcess, Sequence[Sequence[int]], int], DeployedRun]


def run_folder(process: DeployedProcess, turns: Sequence[Sequence[int]], new_tokens: int) -> DeployedRun:
    """Run the folder of a process in a fresh one, under the same interpreter and limits, with nothing of olivine in it.

    It ends with this process. All turns are one request, which may take as long as one for each of them.

    Raises:
        ModelProcessFailed: when it does not load or run, or outgrows its memory.
    """
    script = str(Path(plain_run.__file__))
    connection = Connection(
        [process.python, "-P", script, str(os.getpid())],
        process.timeout_s,
        process.memory_limit_bytes,
        environment=plain_environment(),
    )
    connection.model = process.folder
    assert process.folder is not None
    try:
        return connection.request(
            DeployedRun,
            "run",
            timeout_s=process.timeout_s * len(turns),
            folder=str(process.folder.resolve()),
            adapter=None if process.adapter is None else str(process.adapter.resolve()),
            turns=[list(map(int, tokens)) for tokens in turns],
            new_tokens=new_tokens,
        )
    finally:
        connection.close()


@dataclass(frozen=True)
class Deployed:
    """``context_bytes``, ``deployed_rss_bytes`` and ``cpu_ms_per_token`` of a model folder in a scenario.

    The process is another one than the candidate's: it loads the folder and its tokenizer as any program would, and
    allocates what genai_config.json asks for. A runtime loop other than GenAI's has ``context_bytes`` alone.

    Attributes:
        scenario: prompts and answers.
        prompt: token ids of the first prompt; empty for random ones.
        run: runs a folder.
    """

    scenario: Scenario
    prompt: tuple[int, ...] = ()
    run: Run = field(default=run_folder, repr=False, compare=False)

    name: ClassVar[str] = "deployed"
    metrics: ClassVar[tuple[str, ...]] = ("context_bytes", "deployed_rss_bytes", "cpu_ms_per_token")

    def evaluate(self, candidate: DeployedProcess, reference: DeployedProcess) -> list[Measurement]:
        """Measure the folder that ``candidate`` has loaded; ``reference`` is not used.

        Raises:
            ValueError: when ``candidate`` has no model yet.
            ModelProcessFailed: when the folder does not load or run.
        """
        if candidate.loaded is None or candidate.folder is None:
            raise ValueError("load a model into the process before measuring its folder")
        scenario, context = self.scenario, self.scenario.context
        cache = context_bytes(candidate.folder, context)
        about: dict[str, Any] = {"scenario": asdict(scenario)}
        measured = [Measurement.exact("context_bytes", "bytes", cache, **about)]
        if candidate.loop != "genai":
            return measured
        turns = self._turns(candidate.loaded.vocab_size)
        ran = self.run(candidate, turns, scenario.new_tokens)
        answered = scenario.new_tokens * len(turns)
        about |= {
            "prompts": [len(tokens) for tokens in turns],
            "first_token_ms": [round(ms, 3) for ms in ran.first_ms],
            "turn_ms": [round(ms, 3) for ms in ran.turn_ms],
            "loaded_rss_bytes": ran.loaded_rss_bytes,
            "load_ms": round(ran.load_ms, 3),
            "tokenizer": ran.tokenizer,
            "genai": ran.version,
            "runs": "one, of a fresh process",
        }
        cpu_ms = sum(ran.cpu_ms) / answered
        return [
            *measured,
            Measurement.exact("deployed_rss_bytes", "bytes", ran.peak_rss_bytes, **about),
            Measurement.exact("cpu_ms_per_token", "ms", cpu_ms, cpu_ms=[round(ms, 3) for ms in ran.cpu_ms], **about),
        ]

    def _turns(self, vocab_size: int) -> list[list[int]]:
        """Token ids of each prompt."""
        rng, scenario = np.random.default_rng(0), self.scenario
        first = list(self.prompt) or token_ids(rng, vocab_size, scenario.prompt_tokens)
        return [first, *(token_ids(rng, vocab_size, scenario.turn_tokens) for _ in range(scenario.turns - 1))]


def token_ids(rng: np.random.Generator, vocab_size: int, count: int) -> list[int]:
    """Random token ids, as often as text has them: by Zipf's law, since tokenizers number tokens by frequency.

    Ids that are all as likely would touch far more pages of the embedding, which is mapped from its file, than text
    does: 54 MB more of a model of 135 million weights, at a prompt of 1500 tokens.
    """
    return [int(each) for each in np.exp(rng.uniform(0.0, math.log(vocab_size), count))]
