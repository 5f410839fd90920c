"""``make bench-placement``: how models' times depend on how far the machine's cores lie from each other.

A float base and one other model take turns for some minutes, without a rest and without leaving anything out; every
turn is put down with the distance of the cores before and after it.

    python tests/benchmarks/placement.py float int4 --seconds 180
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import campaign
import numpy as np

from olivine.evaluators.latency.core_placement import FAR, STACKED, THIS_MACHINE, least_adjacent
from olivine.evaluators.latency.interleave import Interleaver
from olivine.evaluators.latency.speedup import lower_half_mean
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.process.scheduling import own_cores

SECTION = "placement"
PROMPT, COLD_STEPS, STEPS = 128, 3, 10
#: Rounds of a pair of processes.
PER_PROCESS = 30


@dataclass(frozen=True)
class Round:
    """Milliseconds of base and model in a round, and the least_adjacent distance of the cores in it."""

    distance: float
    prefill_ms: tuple[float, float]
    decode_ms: tuple[float, float]


def rounds(base: Path, model: Path, seconds: float) -> list[Round]:
    """Rounds as they come."""
    found = []
    rng = np.random.default_rng(0)
    with ModelProcess.open(base) as reference, ModelProcess.open(model) as candidate:
        interleaver = Interleaver([reference, candidate], THIS_MACHINE)
        prompt = [int(token) for token in rng.integers(0, reference.vocab_size, PROMPT)]
        with interleaver.ahead_of_others(0.0):  # no time to rest
            started = time.monotonic()
            wake(interleaver, prompt)
            while time.monotonic() - started < seconds:
                if len(found) % PER_PROCESS == PER_PROCESS - 1:
                    interleaver.restart(rng)
                    wake(interleaver, prompt)
                looks, prefill, decode = [interleaver.core_distance()], [0.0, 0.0], [0.0, 0.0]
                for index in map(int, rng.permutation(2)):
                    prefill[index] = interleaver.pause_others(index).prefill(prompt, STEPS).ms[0]
                looks.append(interleaver.core_distance())
                for index in map(int, rng.permutation(2)):
                    steps = np.array(interleaver.pause_others(index).decode(STEPS).ms[COLD_STEPS:])
                    decode[index] = float(lower_half_mean(steps))
                looks.append(interleaver.core_distance())
                found.append(Round(least_adjacent(looks), (prefill[0], prefill[1]), (decode[0], decode[1])))
    return found


def wake(interleaver: Interleaver[ModelProcess], prompt: Sequence[int]) -> None:
    """Let fresh processes run once."""
    interleaver.reserve(PROMPT)
    for index in (0, 1):
        interleaver.pause_others(index).prefill(prompt, STEPS)
        interleaver.pause_others(index).decode(STEPS)


def table(found: Sequence[Round], model: str, seconds: float) -> str:
    """Medians of the rounds, by where the cores lay."""
    lines = [
        f"`make bench-placement` on {campaign.machine()}: {len(found)} rounds of the float base and of {model} in "
        f"{seconds:g} s, as they come.",
        "",
        "| cores | distance | rounds | decode: base | model | speedup | prefill: base | model | speedup |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    nearest = min((one.distance for one in found if one.distance >= STACKED), default=STACKED)
    groups = {
        "side by side": [one for one in found if STACKED <= one.distance <= FAR * nearest],
        "apart": [one for one in found if one.distance > FAR * nearest],
        "two on one": [one for one in found if one.distance < STACKED],
        "unknown": [one for one in found if math.isnan(one.distance)],
    }
    for name, chosen in groups.items():
        if not chosen:
            continue
        cells = [f"{np.median([one.distance for one in chosen]):.2f}", str(len(chosen))]
        for times in (np.array([one.decode_ms for one in chosen]), np.array([one.prefill_ms for one in chosen])):
            base, own = np.median(times, axis=0)
            cells += [f"{base:.1f} ms", f"{own:.1f} ms", f"{np.median(times[:, 0] / times[:, 1]):.2f}x"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Take rounds, and write the section."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("base", type=Path)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--seconds", type=float, default=180.0)
    options = arguments.parse_args()
    if len(own_cores()) < 2:
        raise SystemExit("This machine has one core.")
    found = rounds(options.base, options.model, options.seconds)
    campaign.write(SECTION, table(found, options.model.name, options.seconds))


if __name__ == "__main__":
    main()
