"""Child process of :mod:`olivine.evaluators.quality.streamed.base`: a checkpoint's predictions, layer by layer.

What a layer gives stands in a file before the next one begins, so a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import fields
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.process.servers.scoring import TopK, finite, stored_window, top_k
from olivine.evaluators.quality.streamed.layers import NotStreamed, StreamedModel
from olivine.passes.store.atomic_files import remove_stale, staged

#: Exit status of a checkpoint that can't be run layer by layer; the last line of standard error says why.
EXIT_NOT_STREAMED = 3
_STATES = "states-{:04d}.npy"


def write_reference(checkpoint: Path, windows: list[tuple[list[int], int]], path: Path, k: int, scratch: Path) -> None:
    """Write what :meth:`DecoderServer.reference` would of the checkpoint's float graph.

    Args:
        checkpoint: folder of config.json and safetensors.
        windows: token ids of each window, and how many of its last tokens are scored.
        path: the file to write (.npz).
        k: likeliest tokens kept per position.
        scratch: folder of the hidden states, which a killed run leaves there; it is deleted at the end.

    Raises:
        NotStreamed: when the checkpoint can't be run so.
        FloatingPointError: when a logit is not finite.
    """
    ids = [np.array(tokens, np.int32) for tokens, _ in windows]
    scratch.mkdir(parents=True, exist_ok=True)
    remove_stale(scratch)
    model = StreamedModel(checkpoint, np.concatenate(ids))
    bounds = list(pairwise(accumulate(map(len, ids), initial=0)))
    parts = [slice(*ends) for ends in bounds]
    done = max((int(file.stem[-4:]) for file in scratch.glob("states-*.npy")), default=0)
    if done:
        _say(f"goes on after layer {done} of {model.layers}")
    started, first = time.monotonic(), done
    while done < model.layers:
        before = _states(scratch, done, bounds[-1][1], model.size)
        after = scratch / _STATES.format(done + 1)
        with staged(after) as staging:
            written = np.lib.format.open_memmap(staging, "w+", np.float32, (bounds[-1][1], model.size))
            for part, state in zip(parts, model.run_layer(done, ids, [before[part] for part in parts]), strict=True):
                written[part] = state
            written.flush()
        (scratch / _STATES.format(done)).unlink(missing_ok=True)
        done += 1
        left = (time.monotonic() - started) / (done - first) * (model.layers - done)
        _say(f"layer {done} of {model.layers}, about {left:.0f} s left")
    states = _states(scratch, done, bounds[-1][1], model.size)
    arrays: dict[str, Any] = {"streamed": np.bool_(True)}
    for number, (window, part) in enumerate(zip(ids, parts, strict=True)):
        base, vocabulary = _top_k(model, window, states[part], len(window) - windows[number][1], k)
        arrays |= {"vocabulary": np.int64(vocabulary)} | stored_window(number, window, base)
    with staged(path) as staging, staging.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **arrays)
    shutil.rmtree(scratch)


def _states(scratch: Path, done: int, tokens: int, size: int) -> np.ndarray:
    """Outputs of layer number ``done`` from one on, mapped; before the first there is nothing to read."""
    if not done:
        return np.broadcast_to(np.float32(0), (tokens, size))
    states: np.ndarray = np.load(scratch / _STATES.format(done), mmap_mode="r")
    return states


def _top_k(model: StreamedModel, window: np.ndarray, state: np.ndarray, first: int, k: int) -> tuple[TopK, int]:
    """Cut the distributions before the tokens from ``first`` on; and the size of the vocabulary."""

    def cut() -> Iterator[TopK]:
        at = first
        for logits in model.logits(window, state, first - 1):
            if not finite(logits):
                raise FloatingPointError("the model gives logits that are not finite: it can't be the base of a study")
            sizes.add(logits.shape[1])
            yield top_k(logits, window[at : at + len(logits)], k)
            at += len(logits)

    sizes: set[int] = set()
    pieces = list(cut())
    (vocabulary,) = sizes
    names = [field.name for field in fields(TopK)]
    return TopK(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names}), vocabulary


def _say(message: str) -> None:
    print(message, flush=True)


def main() -> None:
    """Answer the request on standard input; progress goes to standard output, a line for each layer."""
    request = json.load(sys.stdin)
    try:
        write_reference(
            Path(request["checkpoint"]),
            request["windows"],
            Path(request["path"]),
            request["top_k"],
            Path(request["scratch"]),
        )
    except NotStreamed as error:
        print(error, file=sys.stderr)
        sys.exit(EXIT_NOT_STREAMED)


if __name__ == "__main__":
    main()
