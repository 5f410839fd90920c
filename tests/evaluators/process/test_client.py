from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from bigram import bigram_folder
from onnx import TensorProto, helper

from olivine.evaluators.process.bootstrap import child_command
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.failure import ModelProcessFailed
from olivine.evaluators.process.lifecycle import STARTER
from olivine.evaluators.process.memory_limit import MemoryWatch
from olivine.passes.errors import Excess
from olivine.passes.export.export import Export

OpenProcess = Callable[..., ModelProcess]
LIMIT = 500_000_000


def gone(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_spare_process_starts_before_its_model_exists(base_folder: Path) -> None:
    with ModelProcess.start() as process:
        loaded = process.load(base_folder)
    assert loaded.provider == "CPUExecutionProvider"
    assert loaded.threads == 1
    assert loaded.vocab_size == 3
    assert loaded.load_ms > 0
    assert {"python", "onnxruntime", "onnxruntime-genai"} <= set(loaded.versions)


def test_prefill_and_decode_time_every_token(open_process: OpenProcess, base_folder: Path) -> None:
    process = open_process(base_folder)
    prefill, decode = process.prefill([1, 2, 1]), process.decode(5)
    assert len(prefill.ms) == 1
    assert len(decode.ms) == 5
    assert min(prefill.ms + decode.ms) > 0
    assert prefill.foreign_cores >= 0


def test_stats_are_those_of_the_child(open_process: OpenProcess, base_folder: Path) -> None:
    stats = open_process(base_folder).stats()
    assert 10e6 < stats.rss_bytes <= stats.peak_rss_bytes
    assert not stats.scored


def test_a_python_exception_is_an_error_with_the_last_words(tmp_path: Path) -> None:
    with ModelProcess.start() as process:
        with pytest.raises(ModelProcessFailed, match=r"exit code 1 in 'load'.*FileNotFoundError") as caught:
            process.load(tmp_path / "nothing")
        assert caught.value.kind == "error"
        assert gone(process.pid)


def test_a_broken_graph_is_an_error_that_names_the_folder(base_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "genai_config.json").write_text((base_folder / "genai_config.json").read_text())
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelProcessFailed, match=tmp_path.name) as caught:
        ModelProcess.open(tmp_path)
    assert caught.value.kind == "error"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_a_crash_names_its_signal(open_process: OpenProcess, base_folder: Path, number: signal.Signals) -> None:
    process = open_process(base_folder)
    os.kill(process.pid, number)
    with pytest.raises(ModelProcessFailed, match=number.name) as caught:
        process.prefill([1])
    assert caught.value.kind == "crash"
    assert gone(process.pid)


def interpreter(tmp_path: Path, script: str) -> Path:
    """A program that reads one request, and does what the script says."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nread request\n{script}\n")
    python.chmod(0o755)
    return python


def test_a_hang_is_a_timeout_and_leaves_no_process(tmp_path: Path) -> None:
    with ModelProcess.start(python=interpreter(tmp_path, "exec sleep 60"), timeout_s=0.2) as process:
        with pytest.raises(ModelProcessFailed, match=r"did not answer 'prefill' within 0\.2 s") as caught:
            process.prefill([1])
        assert caught.value.kind == "timeout"
        assert gone(process.pid)


@pytest.mark.parametrize("restarted", [False, True])
def test_outgrowing_the_memory_limit_is_told_with_the_peak(tmp_path: Path, restarted: bool) -> None:
    folder = bigram_folder(tmp_path / "m", np.zeros((2000, 15000), dtype=np.float32))
    with ModelProcess.start(memory_limit_bytes=150_000_000) as process:
        if restarted:
            process.restart()
        with pytest.raises(ModelProcessFailed, match=r"in 'load': it held \d+ MB, its limit is 150 MB") as caught:
            process.load(folder)
            process.reference([(list(range(2000)), 1999)], tmp_path / "r.npz", 512)
        assert caught.value.kind == "memory"
        assert gone(process.pid)
    assert not list(tmp_path.glob("*.npz"))


def graph_of_zeros(folder: Path) -> Path:
    """A graph that gives as many zeros as it is asked for, and a feed that asks for 4 GB of them."""
    folder.mkdir()
    node = helper.make_node("ConstantOfShape", ["size"], ["zeros"])
    size = helper.make_tensor_value_info("size", TensorProto.INT64, [1])
    zeros = helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph([node], "zeros", [size], [zeros])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    (folder / "session.json").write_text('{"intra_op_num_threads": 1}')
    np.savez(folder / "feeds.npz", allow_pickle=False, **{"0/size": np.array([1_000_000_000])})
    return folder


def test_an_allocation_that_onnx_runtime_did_not_get_is_beyond_the_limit(tmp_path: Path) -> None:
    limit, folder = 1_000_000_000, graph_of_zeros(tmp_path / "m")
    command = child_command(sys.executable, "process.server", "graph")
    # A system that allows no control group: allocations fail instead.
    watch = partial(MemoryWatch.start, make_group=lambda limit_bytes: None, untouched=0)
    with ModelProcess(lambda: Connection(command, 300.0, limit, watch)) as process:
        process.load(folder)
        with pytest.raises(
            ModelProcessFailed,
            match=r"in 'run' for want of memory; its limit is 1000 MB \(children.memory\): .*4000000000",
        ) as caught:
            process.run(folder / "feeds.npz", 0, 1)
        assert caught.value.kind == "memory"
        assert caught.value.excess == Excess(limit + 1, limit)
        assert gone(process.pid)


@pytest.mark.parametrize(
    ("words", "limit", "options", "beyond"),
    [
        ("MemoryError", LIMIT, [], True),
        ("numpy._core._exceptions._ArrayMemoryError: Unable to allocate 3 GiB", LIMIT, [], True),
        ("terminate called after throwing an instance of 'std::bad_alloc'", LIMIT, [], True),
        ("Failed to allocate memory for requested buffer of size 8", LIMIT, [], True),
        ("MemoryError", None, [], False),
        ("Failed to allocate memory for requested buffer of size 8", LIMIT, [{"cuda": {}}], False),
    ],
)
def test_last_words_of_want_are_an_excess_where_a_limit_is_set_on_that_memory(
    tmp_path: Path, words: str, limit: int | None, options: list[dict[str, dict[str, str]]], beyond: bool
) -> None:
    python = interpreter(tmp_path, f'echo "{words}" >&2\nexit 1')
    folder = bigram_folder(tmp_path / "m", np.zeros((3, 3), dtype=np.float32), provider_options=options)
    with pytest.raises(ModelProcessFailed, match="exit code 1 in 'load'") as caught:
        ModelProcess.open(folder, python=python, memory_limit_bytes=limit)
    assert caught.value.kind == "memory"
    assert caught.value.excess == (Excess(LIMIT + 1, LIMIT) if beyond else None)
    assert words in caught.value.tail


def test_a_provider_that_is_not_there_is_an_error_not_a_result(tmp_path: Path) -> None:
    folder = bigram_folder(tmp_path / "m", np.zeros((3, 3), dtype=np.float32), provider_options=[{"QNN": {}}])
    with pytest.raises(
        ModelProcessFailed, match=r"asks for QNNExecutionProvider; this ONNX Runtime .*CPUExecutionProvider"
    ) as caught:
        ModelProcess.open(folder)
    assert caught.value.kind == "provider"


def test_prints_of_native_libraries_do_not_reach_the_protocol(open_process: OpenProcess, base_folder: Path) -> None:
    process = open_process(base_folder)
    # What anything in the child prints goes to fd 1, which is its stderr; answers have a descriptor of their
    # own.
    assert os.readlink(f"/proc/{process.pid}/fd/1") == os.readlink(f"/proc/{process.pid}/fd/2")


def test_core_dumps_are_off(open_process: OpenProcess, base_folder: Path) -> None:
    limits = Path(f"/proc/{open_process(base_folder).pid}/limits").read_text()
    line = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
    assert line.split()[4:6] == ["0", "0"]


def test_closing_twice_is_fine_and_a_closed_process_says_so(base_folder: Path) -> None:
    process = ModelProcess.open(base_folder)
    process.close()
    process.close()
    assert gone(process.pid)
    with pytest.raises(ModelProcessFailed, match="is closed"):
        process.stats()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def test_a_paused_process_stands_still_and_answers_when_asked(open_process: OpenProcess, base_folder: Path) -> None:
    process = open_process(base_folder)
    process.pause()
    while state(process.pid) != "T":
        time.sleep(0.001)
    assert len(process.prefill([1, 2]).ms) == 1
    assert state(process.pid) != "T"
    process.pause()
    process.resume()
    assert state(process.pid) != "T"


def test_a_paused_process_can_be_closed(base_folder: Path) -> None:
    process = ModelProcess.open(base_folder)
    process.pause()
    process.close()
    process.pause()
    process.resume()
    assert gone(process.pid)


def ends(process: ModelProcess) -> bool:
    """Tell whether a process ends by itself within twenty seconds."""
    for _ in range(400):
        if not process.alive:
            return True
        time.sleep(0.05)
    return False


def test_a_paused_process_ends_with_the_thread_that_started_it(base_folder: Path) -> None:
    processes: list[ModelProcess] = []

    def open_and_pause() -> None:
        processes.append(ModelProcess.open(base_folder))
        processes[0].pause()

    thread = threading.Thread(target=open_and_pause)
    thread.start()
    thread.join()
    assert ends(processes[0])
    processes[0].close()


def test_a_hurried_process_has_all_its_threads_ahead_where_we_may(open_process: OpenProcess, base_folder: Path) -> None:
    process = open_process(base_folder)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    first = -19 if process.raise_priority() else usual
    assert {os.getpriority(os.PRIO_PROCESS, int(t)) for t in os.listdir(f"/proc/{process.pid}/task")} == {first}
    process.restore_priority()
    assert os.getpriority(os.PRIO_PROCESS, process.pid) == usual


def test_a_restarted_process_is_a_fresh_process_with_the_same_model(
    open_process: OpenProcess, base_folder: Path
) -> None:
    process = open_process(base_folder)
    before = process.pid
    process.restart()
    assert gone(before)
    assert process.pid != before
    process.reload()
    assert len(process.prefill([1, 2]).ms) == 1
    assert process.folder == base_folder


def test_a_process_that_has_lost_its_model_is_of_no_use_until_it_has_it_back(
    open_process: OpenProcess, base_folder: Path
) -> None:
    with ModelProcess.start() as spare:
        assert spare.usable
    process = open_process(base_folder)
    assert process.usable
    process.restart()
    assert process.alive
    assert not process.usable
    process.reload()
    assert process.usable


def test_a_process_without_a_model_cannot_load_it_again() -> None:
    with ModelProcess.start() as process, pytest.raises(ModelProcessFailed, match="never held a model"):
        process.restart()
        process.reload()


def test_the_peak_can_start_anew(open_process: OpenProcess, tmp_path: Path) -> None:
    folder = bigram_folder(tmp_path / "m", np.zeros((1000, 8000), dtype=np.float32))
    process = open_process(folder)
    process.reference([(list(range(1000)), 999)], tmp_path / "r.npz", 8)
    before = process.stats()
    if not process.reset_peak():
        pytest.skip("this kernel does not let a process reset its peak")
    after = process.stats()
    assert before.scored
    assert after.peak_rss_bytes <= before.peak_rss_bytes


def test_memory_that_is_held_stays_with_the_process_until_it_is_given_back(
    open_process: OpenProcess, base_folder: Path
) -> None:
    process = open_process(base_folder)
    before = process.stats().rss_bytes
    process.reserve(2_000_000)  # four prompts of logits for 3 tokens: 96 MB
    assert process.stats().rss_bytes > before + 80e6
    process.prefill([1, 2])
    assert process.stats().rss_bytes > before + 80e6
    process.reserve(0)
    assert process.stats().rss_bytes < before + 40e6


def test_no_more_memory_is_held_than_half_of_what_is_left_to_the_process(
    open_process: OpenProcess, base_folder: Path
) -> None:
    peak = open_process(base_folder).stats().peak_rss_bytes
    with ModelProcess.open(base_folder, memory_limit_bytes=peak + 60_000_000) as process:
        process.reserve(2_000_000)  # 96 MB, if it could
        assert process.stats().peak_rss_bytes < peak + 50_000_000
        assert process.prefill([1, 2]).ms


def test_a_process_is_kept_on_a_core(open_process: OpenProcess, base_folder: Path) -> None:
    process = open_process(base_folder)
    assert process.threads == 1
    cores = os.sched_getaffinity(process.pid)
    process.pin({min(cores)})
    assert os.sched_getaffinity(process.pid) == {min(cores)}
    process.close()
    process.pin(cores)


def test_two_processes_answer_at_the_same_time(open_process: OpenProcess, base_folder: Path) -> None:
    processes = [open_process(base_folder), open_process(base_folder)]
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda process=process: counts.append(len(process.prefill([1]).ms)))
        for process in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [1, 1]


def test_the_child_ends_when_its_parent_is_gone(base_folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from olivine.evaluators.process.client import ModelProcess\n"
        "print(ModelProcess.open(Path(sys.argv[1])).pid, flush=True); os._exit(0)"
    )
    parent = subprocess.run([sys.executable, "-c", code, str(base_folder)], capture_output=True, check=True)
    for _ in range(400):
        if gone(int(parent.stdout)):
            break
        time.sleep(0.05)
    assert gone(int(parent.stdout))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ('[1, {"ms": [2', "no JSON"),
        ("not json", "no JSON"),
        ("[1]", "no Timing"),
        ('[99, {"ms": [1.0], "foreign_cores": 0}]', "answered another request"),
        ("[1, {}]", "a Timing without 'ms'"),
        ('[1, {"ms": 3.0, "foreign_cores": 0}]', "whose 'ms' is 3.0: Input should be a valid array"),
        ('[1, {"ms": [NaN], "foreign_cores": 0}]', "whose 'ms.0' is nan: Input should be a finite number"),
        ('[1, {"ms": [true], "foreign_cores": 0}]', "whose 'ms.0' is True"),
        ('[1, {"ms": ["1"], "foreign_cores": 0}]', "whose 'ms.0' is '1'"),
        ('[1, {"ms": [1.0], "foreign_cores": 0, "x": 1}]', "whose 'x' is 1: Unexpected keyword"),
        ('[1, {"ms": [], "foreign_cores": 0}]', r"the times \[\], not with 1"),
        ('[1, {"ms": [0.0], "foreign_cores": 0}]', "not with 1 above 0"),
    ],
)
def test_an_answer_of_wrong_fields_is_an_error_and_ends_the_process(tmp_path: Path, answer: str, what: str) -> None:
    with ModelProcess.start(python=interpreter(tmp_path, f"echo '{answer}'\nexec sleep 60")) as process:
        with pytest.raises(ModelProcessFailed, match=f"answered.*'prefill'.*{what}|{what}.*'prefill'") as caught:
            process.prefill([1])
        assert caught.value.kind == "error"
        assert gone(process.pid)


def test_logits_for_another_vocabulary_than_the_base_s_are_an_error(
    open_process: OpenProcess, base_folder: Path, tmp_path: Path
) -> None:
    open_process(base_folder).reference([([0, 1, 2], 2)], tmp_path / "r.npz", 3)
    wider = bigram_folder(tmp_path / "wider", np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(ModelProcessFailed, match="logits for 4 tokens, the base's for 3") as caught:
        open_process(wider).score(tmp_path / "r.npz", 0)
    assert caught.value.kind == "error"


def test_scoring_holds_one_window_of_a_huge_vocabulary(
    tmp_path: Path, make_tiny_checkpoint: Callable[..., Path]
) -> None:
    vocabulary, length = 262144, 65  # Gemma's
    checkpoint = make_tiny_checkpoint(tmp_path / "checkpoint", vocab=vocabulary)
    (tmp_path / "onnx").mkdir()
    Export().apply(checkpoint, tmp_path / "onnx")
    logits = vocabulary * length * 4
    windows = [(list(range(start, start + length)), length - 1) for start in range(0, 600, 100)]
    stored = tmp_path / "reference.npz"

    def held() -> int:
        with ModelProcess.open(tmp_path / "onnx") as process:
            process.reference(windows, stored, 512)
            if not process.reset_peak():
                pytest.skip("this kernel does not let a peak start anew")
            before = process.stats().rss_bytes
            scores = [process.score(stored, number) for number in range(len(windows))]
            assert all(score.finite and score.kl < 1e-3 for score in scores)
            return process.stats().peak_rss_bytes - before

    # What ONNX Runtime's arena has kept or given back when the count begins is a process's luck, worth a window or two
    # in one of six; what scoring holds on to is the same in every process.
    # ONNX Runtime's logits, the array of them, and for a moment one of the two again; never those of six windows.
    assert any(held() < 3.5 * logits for _ in range(4))


def test_a_child_whose_starter_is_gone_ends_at_once() -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    code = "from olivine.evaluators.process.lifecycle import begin; begin(); print('goes on')"
    for starter, printed in ((gone.stdout.decode().strip(), ""), (str(os.getpid()), "goes on")):
        child = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, STARTER: starter}
        )
        assert child.stdout.strip() == printed
        assert child.returncode == (0 if printed else 1)
