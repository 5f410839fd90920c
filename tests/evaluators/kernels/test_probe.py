"""The probe's own sums with given times, and one small real probe. No time is asserted."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from olivine.evaluators.kernels import timing as timing
from olivine.evaluators.kernels.graphs import KernelGraph
from olivine.evaluators.kernels.probe import MOST_COPIES, copies, probe_kernels, runtime_version
from olivine.evaluators.kernels.times import KernelTimes, Product
from olivine.evaluators.kernels.timing import CODES, FLOATS
from olivine.evaluators.process.bootstrap import child_command
from olivine.evaluators.process.lifecycle import STARTER
from olivine.passes.errors import BuildFailed, UsageError
from olivine.passes.kernel import DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN, FLOAT, Kernel

INT4 = Kernel(4, 32, 4, "float")
#: A kernel that no runtime has.
INT3 = Kernel(3, 32, 4, "float")
SHAPES = ((64, 48), (32, 16))
TIMES = KernelTimes(
    {
        Product(FLOAT, 576, 960, 1): 0.1,
        Product(FLOAT, 576, 8192, 1): 0.9,
        Product(INT4, 576, 960, 1): 0.02,
        Product(INT3, 576, 960, 1): math.inf,
    },
    threads=2,
    runtime="1.31.1",
    failures={INT3: "no such kernel"},
)


def test_wider_layers_scale_from_the_widest_that_was_probed() -> None:
    assert TIMES.ms(FLOAT, 576, 960, 1) == 0.1
    assert TIMES.ms(FLOAT, 576, 1920, 1) == pytest.approx(0.2)
    assert TIMES.ms(FLOAT, 576, 49152, 1) == pytest.approx(0.9 * 6)
    assert TIMES.total_ms(FLOAT, [(576, 960), (576, 960), (576, 8192)], 1) == pytest.approx(1.1)


def test_a_kernel_that_does_not_run_takes_forever() -> None:
    assert TIMES.ms(INT3, 576, 960, 1) == math.inf
    assert TIMES.total_ms(INT3, [(576, 960)], 1) == math.inf


@pytest.mark.parametrize(
    ("kernel", "k", "n", "tokens"),
    [(FLOAT, 576, 959, 1), (FLOAT, 577, 960, 1), (FLOAT, 576, 960, 128), (DYNAMIC_INT8, 576, 960, 1)],
)
def test_what_was_not_probed_has_no_time(kernel: Kernel, k: int, n: int, tokens: int) -> None:
    with pytest.raises(KeyError, match="was not probed"):
        TIMES.ms(kernel, k, n, tokens)


def test_times_survive_json() -> None:
    text = TIMES.to_text()
    assert "Infinity" not in text
    assert KernelTimes.from_json(json.loads(text)) == TIMES


def test_a_decoded_layer_has_as_many_copies_as_fill_the_run_and_a_prompt_fewer() -> None:
    assert FLOAT.weight_bytes(64, 32) == 8192
    assert copies(Product(FLOAT, 64, 32, 1), 10 * 8192) == 10
    assert copies(Product(FLOAT, 64, 32, 5), 10 * 8192) == 2
    assert copies(Product(FLOAT, 64, 32, 128), 10 * 8192) == 1
    assert copies(Product(FLOAT, 64, 32, 1), 10**9) == MOST_COPIES


def test_weights_are_as_large_as_their_graph_reads() -> None:
    assert INT4.weight_bytes(64, 32) == 32 * 2 * (16 + 4)
    assert INT4.weight_bytes(65, 32) == 32 * 3 * (16 + 4)
    assert DYNAMIC_INT8.weight_bytes(64, 32) == 64 * 32 + 4 * 32
    graph = KernelGraph(INT4, 64, 32, 1, copies=3)
    assert graph.sizes == {CODES: 3 * 4096, FLOATS: 3 * 4096}


@pytest.mark.parametrize(
    "kernel", [FLOAT, INT4, Kernel(2, 32, 4, "float"), Kernel(8, 16, 0, "float"), DYNAMIC_INT8, DYNAMIC_INT8_BY_TOKEN]
)
def test_every_copy_of_a_layer_is_computed_from_its_own_weight(kernel: Kernel, tmp_path: Path) -> None:
    graph = KernelGraph(kernel, 64, 32, tokens=5, copies=3)
    (tmp_path / "graph.onnx").write_bytes(graph.to_bytes())
    for file, size in graph.sizes.items():
        timing.fill(tmp_path / file, size)
    session = ort.InferenceSession(str(tmp_path / "graph.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 5, 64)).astype(np.float32)
    outputs = session.run(None, {values.name: x for values in session.get_inputs()})
    assert [output.shape for output in outputs] == [(1, 5, 32)] * 3
    assert all(np.isfinite(output).all() for output in outputs)
    assert not np.allclose(outputs[0], outputs[1])


def test_graphs_run_in_turns_and_the_first_round_does_not_count() -> None:
    now, order = [0.0], []

    def run(name: str, seconds: float) -> Any:
        def once() -> None:
            order.append(name)
            now[0] += seconds * (100 if order.count(name) == 1 else 1)

        return once

    seconds = timing.run_in_turns({"a": run("a", 1.0), "b": run("b", 2.0)}, clock=lambda: now[0])
    assert seconds == {"a": [1.0] * timing.LEAST_ROUNDS, "b": [2.0] * timing.LEAST_ROUNDS}
    assert order == ["a", "b"] * (timing.LEAST_ROUNDS + 1)


def test_fast_graphs_run_often_but_not_for_ever() -> None:
    seconds = timing.run_in_turns({"a": lambda: None}, clock=lambda: 0.0)
    assert len(seconds["a"]) == timing.MOST_ROUNDS


def test_the_slower_half_does_not_count() -> None:
    assert timing.lower_half_mean([3.0, 90.0, 1.0, 80.0, 2.0]) == 2.0
    assert timing.lower_half_mean([4.0]) == 4.0


def test_a_real_probe_times_what_runs_names_what_does_not_and_is_kept(tmp_path: Path) -> None:
    kernels = [FLOAT, INT4, INT3, DYNAMIC_INT8]
    times = probe_kernels(SHAPES, kernels, [1, 3], threads=1, cache=tmp_path)
    assert (times.threads, times.runtime, times.kernels) == (1, ort.__version__, frozenset(kernels))
    assert len(times.times) == len(SHAPES) * len(kernels) * 2
    for product, ms in times.times.items():
        assert math.isinf(ms) == (product.kernel == INT3)
        assert ms > 0
    assert set(times.failures) == {INT3}
    assert "bits" in times.failures[INT3]
    again = probe_kernels(list(reversed(SHAPES)), list(reversed(kernels)), [3, 1], threads=1, cache=tmp_path)
    assert again == times, "measured times would differ"
    assert probe_kernels(SHAPES, [FLOAT], [1], threads=2, cache=tmp_path).threads == 2


def interpreter(folder: Path, script: str) -> Path:
    """An interpreter with ONNX Runtime 1.31.1 that does this when it is to time kernels."""
    python = folder / "python"
    version = 'case "$*" in *importlib.metadata*) echo onnxruntime 1.31.1; exit 0;; esac'
    python.write_text(f"#!/bin/sh\n{version}\ncat > {folder}/request.json\n{script}\n")
    python.chmod(0o755)
    return python


def answering(folder: Path, graphs: int) -> Path:
    """An interpreter in which every run of a graph takes a millisecond."""
    answer = {"runtime": "1.31.1", "graphs": {f"{number}.onnx": {"ms": 1.0} for number in range(graphs)}}
    return interpreter(folder, f"echo '{json.dumps(answer)}'")


def test_a_kept_file_that_is_not_whole_is_measured_anew(tmp_path: Path) -> None:
    python = answering(tmp_path, len(SHAPES))
    times = probe_kernels(SHAPES, [FLOAT], [1], threads=1, python=python, cache=tmp_path)
    (stored,) = (tmp_path / "kernels").iterdir()
    for broken in ("", "{}"):
        stored.write_text(broken)
        assert probe_kernels(SHAPES, [FLOAT], [1], threads=1, python=python, cache=tmp_path) == times
        assert json.loads(stored.read_text()) == times.to_json()


def test_a_wide_head_is_probed_narrower(tmp_path: Path) -> None:
    heads = [(576, 49152), (576, 128256)]
    times = probe_kernels(heads, [FLOAT], [1], threads=1, python=answering(tmp_path, 1), cache=tmp_path)
    assert set(times.times) == {Product(FLOAT, 576, 8192, 1)}


def test_an_interpreter_without_onnx_runtime_is_a_usage_error(tmp_path: Path) -> None:
    silent = tmp_path / "python"
    silent.write_text("#!/bin/sh\nexit 0\n")
    silent.chmod(0o755)
    with pytest.raises(UsageError, match="has no onnxruntime"):
        runtime_version(silent)
    with pytest.raises(UsageError, match="can't be run"):
        runtime_version(tmp_path / "nowhere")
    assert runtime_version(sys.executable).split()[-1] == ort.__version__


@pytest.mark.parametrize(
    ("end", "how"), [("exit 139", "ended with exit code 139"), ("kill -SEGV $$", "died of SIGSEGV")]
)
def test_a_child_that_dies_is_named_with_its_last_line(tmp_path: Path, end: str, how: str) -> None:
    python = interpreter(tmp_path, f"echo a line >&2\necho illegal instruction >&2\n{end}")
    with pytest.raises(BuildFailed, match=f"{how}; it said last: illegal instruction"):
        probe_kernels(SHAPES, [FLOAT], [1], threads=1, python=python, cache=tmp_path)
    assert not list(tmp_path.glob("kernels/*"))


def test_a_child_gets_no_secret_and_none_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = interpreter(tmp_path, f"env > {tmp_path}/env\necho 'it read hf_neverToBeSeenAnywhere' >&2\nexit 1")
    monkeypatch.setenv("SECRET_TOKEN", "neverToBePassedOn")
    with pytest.raises(BuildFailed, match=r"it read \*\*\*$") as caught:
        probe_kernels(SHAPES, [FLOAT], [1], threads=1, python=python, cache=tmp_path)
    assert "never" not in caught.value.tail
    environment = (tmp_path / "env").read_text()
    assert "neverToBePassedOn" not in environment
    assert f"{STARTER}={os.getpid()}\n" in environment


# No process id of Linux is above 2**22.
@pytest.mark.parametrize(("starter", "code"), [(os.getpid(), 0), (2**22 + 1, 1)], ids=["alive", "gone"])
def test_a_child_does_not_outlive_its_starter(tmp_path: Path, starter: int, code: int) -> None:
    request = json.dumps({"folder": str(tmp_path), "threads": 1, "files": {}, "groups": []})
    child = subprocess.run(
        child_command(sys.executable, "kernels.timing"),
        input=request,
        capture_output=True,
        text=True,
        env={**os.environ, STARTER: str(starter)},
    )
    assert child.returncode == code
    assert ("runtime" in child.stdout) == (code == 0)


def test_other_providers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'cuda'"):
        probe_kernels(SHAPES, [FLOAT], [1], threads=1, provider="cuda", cache=tmp_path)


def test_kernels_are_named_in_words() -> None:
    assert str(Kernel(8, 32, 0, "float")) == "int8 blocks of 32 at accuracy_level 0"
    assert (str(FLOAT), str(DYNAMIC_INT8)) == ("fp32", "dynamic int8")
    assert str(DYNAMIC_INT8_BY_TOKEN) == "dynamic int8 by token"
