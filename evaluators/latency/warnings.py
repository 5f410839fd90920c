"""Warnings of doubtful measurements, each a sentence that names the cure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

#: Share of the machine's time that a host may keep without a warning.
STOLEN = 0.02
#: Times the median that the first time that counts may take without a warning.
FIRST_SLOWER = 1.3
#: Half-width of a perplexity ratio above which no number of windows can be named.
HOPELESS = 1.0
#: Governors that hold a core at one frequency.
STEADY_GOVERNORS = ("performance", "userspace")


def timing_warnings(
    stolen_share: float,
    governor: str | None,
    warmed_up: bool,
    readings_ms: Sequence[Sequence[float]],
    reading: str = "prefill",
) -> Iterator[str]:
    """Warn of disturbances of a paired measurement.

    Args:
        stolen_share: share of the machine's time that its host kept meanwhile.
        governor: the kernel's rule for the frequency; None where it has none.
        warmed_up: whether warm-up ended because times were steady.
        readings_ms: [models][rounds] times, in the order taken.
        reading: name of one time.
    """
    if stolen_share > STOLEN:
        yield (
            f"The host kept {stolen_share:.0%} of the CPU time from this virtual machine (steal): its speed is not its "
            "own. Measure at another time, or on a machine that is not shared."
        )
    if governor is not None and governor not in STEADY_GOVERNORS:
        yield (
            f"The frequency governor is '{governor}', so that clocks change with load. Set it with 'cpupower "
            "frequency-set -g performance' while you measure."
        )
    slower = max(times[0] / float(np.median(times)) for times in readings_ms)
    if slower > FIRST_SLOWER:
        yield (
            f"The first {reading} that counts took {slower:.1f} times as long as the median one: warm-up was too "
            "short. Give more time per measurement (max_seconds, --seconds)."
        )
    elif not warmed_up:
        yield (
            "Warm-up ended by its time, while readings still fell. Give more time per measurement (max_seconds, "
            "--seconds)."
        )


def core_warnings(facts: Mapping[str, Any], rounds: int) -> Iterator[str]:
    """Warn of cores that did not stay where they were.

    Args:
        facts: ``core_distance`` of the protocol; empty where it has none.
        rounds: number of rounds that were taken.
    """
    if facts.get("watched") is False:
        yield (
            "How the host runs the cores was not watched, as the system refuses memory that processes share "
            "(memfd_create), and a speedup depends on it. Allow it, as containers do by default."
        )
    if facts.get("moved_counted"):
        yield (
            f"The host moved the cores of this virtual machine in {facts['rounds_moved']} rounds, which count, as too "
            "few others were left: the speedup is that of a mixture. Measure longer (max_seconds, --seconds), or on a "
            "machine whose cores stay in place."
        )
    if 2 * facts.get("rounds_unknown", 0) > rounds:
        yield (
            f"How the host ran the cores could not be told in {facts['rounds_unknown']} of {rounds} rounds, and a "
            "speedup depends on it. End the programs that keep cores busy, and measure again."
        )


def oversubscribed(threads: int, cores: int) -> str | None:
    """Warn of a model with more threads than there are cores; None where it has not."""
    if threads <= cores:
        return None
    return (
        f"It runs {threads} threads on {cores} cores: they wait for each other. Set threads (intra_op_num_threads in "
        f"genai_config.json) to {cores} or less."
    )


def too_short(half_width: float, wanted: float, windows: int) -> str | None:
    """Warn of a perplexity ratio that is less precise than wanted, with the number of windows that would do.

    The width of an interval falls with the square root of the number of windows.

    Args:
        half_width: of the ratio's interval.
        wanted: half-width that was asked for.
        windows: number of windows scored.
    """
    if half_width <= wanted:
        return None
    if half_width > HOPELESS:
        return f"Too few windows ({windows}) to say anything of the perplexity ratio. Score more, of a longer text."
    return (
        f"The text is too short for a perplexity ratio to ±{wanted:.2g}: {windows} windows give ±{half_width:.2g}. "
        f"Score {int(np.ceil(windows * (half_width / wanted) ** 2))} windows (of a longer text, if it has no more), or "
        "ask for less (--half-width)."
    )
