"""Folders that run as they are deployed; no test looks at how long anything took."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.messages import DeployedRun
from olivine.evaluators.scenario import deployed, plain_run
from olivine.evaluators.scenario.context_bytes import context_bytes
from olivine.evaluators.scenario.deployed import Deployed, token_ids
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.catalog import LANGUAGE
from olivine.passes.learn.calibration import store_tokens
from olivine.passes.pipeline import build
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

OpenProcess = Callable[..., ModelProcess]
SCENARIO = Scenario(context=64, prompt_tokens=12, new_tokens=3, turns=3, turn_tokens=5)
#: What anyone would write, from the documentation of ONNX Runtime GenAI.
PLAIN = """
import sys, onnxruntime_genai as genai
model = genai.Model(sys.argv[1])
tokenizer = genai.Tokenizer(model)
generator = genai.Generator(model, genai.GeneratorParams(model))
generator.append_tokens(tokenizer.encode("the old boat lay there"))
for _ in range(3):
    generator.generate_next_token()
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


#: Starts the program that is its first argument, on its own pipes, and waits.
PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-P", sys.argv[1], str(os.getpid())], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""


def test_the_cache_takes_keys_and_values_of_every_layer(tiny_onnx: Path) -> None:
    layers, heads, features, float32 = 2, 2, 16, 4
    assert context_bytes(tiny_onnx, 100) == 2 * layers * heads * features * float32 * 100


@pytest.mark.parametrize(("precision", "share"), [("int8", 1 / 4), ("int4", 1 / 8)])
def test_a_cache_in_integers_takes_less(tiny_llama: Path, tmp_path: Path, precision: str, share: float) -> None:
    cache = Cache(tmp_path)
    text = store_tokens(cache, np.random.default_rng(0).integers(4, 300, size=(2, 40)))
    recipe = LANGUAGE.compose({"threads": 1, "kv_cache": precision})
    folder = build(resolve(str(tiny_llama)), recipe, cache, text).artifact.path
    assert context_bytes(folder, 100) == share * 2 * 2 * 2 * 16 * 4 * 100


def test_a_folder_is_run_turn_by_turn(open_process: OpenProcess, tiny_onnx: Path) -> None:
    process = open_process(tiny_onnx)
    measured = {m.metric: m for m in Deployed(SCENARIO).evaluate(process, process)}
    assert set(measured) == set(Deployed.metrics)
    protocol = measured["deployed_rss_bytes"].protocol
    assert protocol["prompts"] == [12, 5, 5]
    assert len(protocol["turn_ms"]) == len(protocol["first_token_ms"]) == 3
    assert protocol["tokenizer"] == "loaded"
    assert measured["deployed_rss_bytes"].value >= protocol["loaded_rss_bytes"] > 0
    assert measured["cpu_ms_per_token"].value == pytest.approx(
        sum(measured["cpu_ms_per_token"].protocol["cpu_ms"]) / 9, abs=1e-3
    )


def test_its_memory_is_that_of_a_plain_program(open_process: OpenProcess, tiny_onnx: Path) -> None:
    process = open_process(tiny_onnx)
    peak = Deployed(SCENARIO).evaluate(process, process)[1]
    command = [sys.executable, "-c", PLAIN, str(tiny_onnx)]
    plain = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024
    assert peak.metric == "deployed_rss_bytes"
    assert peak.value == pytest.approx(plain, rel=0.05)


def test_prompts_of_ones_own_are_run_in_the_place_of_random_ones(open_process: OpenProcess, tiny_onnx: Path) -> None:
    process = open_process(tiny_onnx)
    once = replace(SCENARIO, turns=1)
    measured = Deployed(once, prompt=tuple(range(4, 11))).evaluate(process, process)
    assert measured[1].protocol["prompts"] == [7]


def test_a_folder_without_room_for_the_scenario_fails_by_its_name(
    open_process: OpenProcess, tiny_onnx: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "short"
    shutil.copytree(tiny_onnx, folder)
    config = json.loads((folder / "genai_config.json").read_text())
    config["search"]["max_length"] = 8
    (folder / "genai_config.json").write_text(json.dumps(config))
    process = open_process(folder)
    with pytest.raises(ModelProcessFailed, match="short"):
        Deployed(SCENARIO).evaluate(process, process)


def test_a_session_without_genai_has_the_bytes_of_its_context_alone(open_process: OpenProcess, tiny_onnx: Path) -> None:
    process = open_process(tiny_onnx, loop="session")
    assert [m.metric for m in Deployed(SCENARIO).evaluate(process, process)] == ["context_bytes"]


def test_an_empty_process_has_no_folder_to_run() -> None:
    with ModelProcess.start() as process, pytest.raises(ValueError, match="load a model"):
        Deployed(SCENARIO).evaluate(process, process)


def test_random_tokens_are_as_unlike_as_those_of_a_text() -> None:
    ids = token_ids(np.random.default_rng(0), 50_000, 2000)
    assert len(ids) == 2000
    assert min(ids) >= 0 and max(ids) < 50_000
    assert len(set(ids)) < 1200, "uniform ones are all but 40 different from each other"


def test_it_ends_with_the_process_that_started_it() -> None:
    command = [sys.executable, "-c", PARENT, str(plain_run.__file__)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        try:
            ended, _, _ = select.select([parent.stdout], [], [], 60)
            assert ended and parent.stdout.read() == b"", "the child still holds its pipe"
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)


def test_each_turn_has_the_time_of_a_request(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []

    class Recorded:
        def __init__(self, command: list[str], timeout_s: float, limit: int | None, environment: object) -> None:
            assert command[-1] == str(os.getpid())

        def request(self, answer: type, command: str, **arguments: Any) -> DeployedRun:
            asked.append(arguments)
            return DeployedRun(1, 1, 1.0, [], [], [], "loaded", "1")

        def close(self) -> None:
            asked.append({})

    class Loaded:
        folder, loaded, loop, python, timeout_s, memory_limit_bytes = tmp_path, None, "genai", "python", 7.0, None
        adapter = None

    monkeypatch.setattr(deployed, "Connection", Recorded)
    deployed.run_folder(Loaded(), [[1, 2], [3], [4]], 5)
    assert asked[0]["timeout_s"] == 3 * 7.0
    assert asked[1:] == [{}], "closed"


@pytest.mark.parametrize(("asked", "loads"), [("cuda", ["libraries", "model"]), ("cpu", ["model"])])
def test_cudas_libraries_are_loaded_before_a_folder_that_asks_for_cuda(
    asked: str, loads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []

    def load(folder: str) -> None:
        loaded.append("model")
        raise RuntimeError("no device")

    preload = SimpleNamespace(preload_dlls=lambda: loaded.append("libraries"))
    monkeypatch.setitem(sys.modules, "onnxruntime", preload)
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", SimpleNamespace(Model=load))
    config = {"model": {"decoder": {"session_options": {"provider_options": [{asked: {}}]}}}}
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    with pytest.raises(RuntimeError, match="no device"):
        plain_run.run(str(tmp_path), [[1]], 1)
    assert loaded == loads
