"""The run of a model folder through a scenario, as a program of one's own would do it: plain ONNX Runtime GenAI.

A program by itself, started under the interpreter of the model's provider: it needs numpy and onnxruntime_genai alone
(on CUDA onnxruntime too), and nothing else is loaded, since its resident peak is what is measured. It reads one line of
JSON, ``{"id": number, "folder": path, "adapter": path, "turns": [[token id]], "new_tokens": number}``, the adapter null
where none is active, and answers ``[number, {...}]``; its argument is the process that starts it, with which it ends.
The folder's own genai_config.json decides everything but the length of the answers, and that no tokens are guessed: of
random prompts, guesses tell nothing.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from typing import Any

#: Option of prctl(2): the signal that the kernel sends when the thread ends that started this process.
_PR_SET_PDEATHSIG = 1


def run(folder: str, turns: list[list[int]], new_tokens: int, adapter: str | None = None) -> dict[str, Any]:
    """Load the model, and the file of an adapter, and let one conversation go on; times in milliseconds."""
    import numpy as np
    import onnxruntime_genai as genai

    if hasattr(genai, "disable_telemetry_events"):
        genai.disable_telemetry_events()
    _preload(folder)
    started = time.perf_counter()
    model = genai.Model(folder)
    tokenizer, lack = _tokenizer(genai, model)
    adapters = None
    if adapter is not None:
        adapters = genai.Adapters(model)
        adapters.load(adapter, "active")
    load_ms = (time.perf_counter() - started) * 1e3
    loaded = _status("VmRSS")
    params = genai.GeneratorParams(model)
    total = sum(map(len, turns)) + new_tokens * len(turns)
    params.set_search_options(min_length=total)  # no answer ends early
    if hasattr(params, "get_speculative_options") and params.get_speculative_options().get("ngram_size"):
        params.set_speculative_options(ngram_size=0)
    generator = genai.Generator(model, params)
    if adapters is not None:
        generator.set_active_adapter(adapters, "active")
    stream = None if tokenizer is None else tokenizer.create_stream()
    first_ms, turn_ms, cpu_ms = [], [], []
    for tokens in turns:
        begun, cpu = time.perf_counter(), time.process_time()
        _append(generator, np.array(tokens, dtype=np.int32))
        for number in range(new_tokens):
            generator.generate_next_token()
            token = generator.get_next_tokens()[0]
            if stream is not None:
                stream.decode(token)
            if number == 0:
                first_ms.append((time.perf_counter() - begun) * 1e3)
        turn_ms.append((time.perf_counter() - begun) * 1e3)
        cpu_ms.append((time.process_time() - cpu) * 1e3)
    return {
        "peak_rss_bytes": _status("VmHWM"),
        "loaded_rss_bytes": loaded,
        "load_ms": load_ms,
        "first_ms": first_ms,
        "turn_ms": turn_ms,
        "cpu_ms": cpu_ms,
        "tokenizer": lack or "loaded",
        "version": str(genai.__version__),
    }


def _append(generator: Any, tokens: Any) -> None:
    """Append a turn. The last token of an answer was never computed: it goes first, lest the cache has a hole there."""
    import numpy as np

    before = generator.get_sequence(0)
    if len(before):
        try:
            generator.rewind_to(len(before) - 1)
        except RuntimeError:  # of windows and recurrent states, which GenAI does not rewind: the hole is a token long
            generator.append_tokens(tokens)
            return
        tokens = np.concatenate([before[-1:], tokens])
    generator.append_tokens(tokens)


def _preload(folder: str) -> None:
    """Load CUDA's libraries where the folder asks for CUDA: they may be Python packages, where no loader looks."""
    with open(os.path.join(folder, "genai_config.json"), encoding="utf-8") as file:
        decoder = json.load(file)["model"]["decoder"]
    options = decoder.get("session_options", {}).get("provider_options") or []
    if any(name.lower() in ("cuda", "cudaexecutionprovider") for option in options for name in option):
        import onnxruntime  # only here: on the CPU it would count as memory of the folder

        onnxruntime.preload_dlls()


def _tokenizer(genai: Any, model: Any) -> tuple[Any, str]:
    """GenAI's tokenizer of the model; or None, and why it has none that GenAI can read."""
    try:
        return genai.Tokenizer(model), ""
    except RuntimeError as error:
        return None, str(error)


def _status(field: str) -> int:
    """Bytes of a field of proc(5)'s status of this process."""
    with open("/proc/self/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return int(fields[field].split()[0]) * 1024


def _end_with(starter: int) -> None:
    """Let the kernel end this process when its parent ends, or end it now when ``starter`` has ended already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if not os.path.exists(f"/proc/{starter}"):  # it ended before we asked to end with it
        os._exit(1)


def main() -> None:
    """Answer one request, for as long as whoever asks is there."""
    _end_with(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what native libraries print goes to stderr and can't break the answer
    request = json.loads(sys.stdin.readline())
    answer = run(request["folder"], request["turns"], request["new_tokens"], request["adapter"])
    answers.write(json.dumps([request["id"], answer]) + "\n")
    answers.flush()
    os._exit(0)  # no destructors: the peak is known


if __name__ == "__main__":
    main()
