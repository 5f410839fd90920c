"""Stop rules: trials, time, a front that no longer grows, and time that confirmation and export still need.

Nothing is assumed of the model or the machine: how long a candidate and a confirmation take is read off the trials
that ended, so a machine that is busy today ends its search earlier. A candidate that was dropped after a few windows
says less of them than it took: its windows are counted up to all, and its timing is taken from others.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from olivine.evaluators.latency.rounds import MAX_PROCESSES, PROCESS_SECONDS
from olivine.search.config.load import AnyConfig
from olivine.search.pareto import last_growth
from olivine.search.records import TrialRecord
from olivine.search.report.formatting import duration_text
from olivine.search.selection.contenders import choose_contenders

#: Candidates whose times count: the last ones, since a study may speed up or slow down.
RECENT = 3
#: Proposing, telling and writing a trial; building and loading the base with one thread; checking an export.
PROPOSE_S, DEFAULT_THREADS_S, EXPORT_S = 1.0, 4.0, 5.0
#: Starting a pair of processes anew within a timing, beyond loading their models.
RESTART_S = 2.0
#: Phases that score a candidate's outputs: a text, or samples and a task's rows.
SCORING = ("quality", "fidelity", "task")
LATENCY = "latency"


@dataclass(frozen=True)
class StopRules:
    """The stop rules of a study, in one of the processes that run it.

    Attributes:
        config: of the study.
        spent: seconds that trials of earlier processes took; ``stop.total`` counts them.
        began: monotonic seconds when this process began.
    """

    config: AnyConfig
    spent: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, config: AnyConfig, records: Sequence[TrialRecord]) -> StopRules:
        """The rules of a process that begins now, with what earlier ones have measured."""
        return cls(config, seconds_spent(records))

    def reason(self, records: Sequence[TrialRecord]) -> str | None:
        """The rule that ends the search after these records, in words; None while none does."""
        stop, passed = self.config.stop, time.monotonic() - self.began
        candidates = [record for record in records if record.number > 0]
        if len(candidates) >= stop.trials:
            return f"{stop.trials} trials"
        if stop.timeout is not None and passed >= stop.timeout:
            return f"{stop.timeout:g} s have passed"
        growth = last_growth(candidates, self.config.objectives) if stop.patience is not None else 0
        if stop.patience is not None and len(candidates) - growth >= stop.patience:
            return f"the front has not grown for {stop.patience} trials"
        if stop.total is not None and candidates:
            needed = seconds_needed(self.config, records, len(choose_contenders(records, self.config)))
            if passed + self.spent + needed > stop.total:
                return f"what is left of {duration_text(stop.total)} goes to confirmation and export"
        return None


def seconds_spent(records: Sequence[TrialRecord]) -> float:
    """Seconds that ended trials took, of whichever process."""
    return sum(sum(record.phases.values()) for record in records)


def seconds_needed(config: AnyConfig, records: Sequence[TrialRecord], members: int) -> float:
    """Seconds that one more candidate, which may be scored and timed in full, confirmation and export should take.

    Args:
        config: of the study.
        records: of the base and of at least one candidate.
        members: of the front that would be confirmed, if the config allows so many.
    """
    recent = [record for record in records if record.number > 0][-RECENT:]
    until_scored = max(_seconds_until_scored(record) for record in recent)
    trial = until_scored + _whole_scoring(records) + _longest(records, LATENCY) + PROPOSE_S
    return trial + seconds_of_finish(config, records, members)


def seconds_of_finish(config: AnyConfig, records: Sequence[TrialRecord], members: int) -> float:
    """Seconds that confirming so many members, and exporting one, should take; as :func:`seconds_needed`."""
    confirm = config.confirm
    load, scoring, latency = _longest(records, "load"), _whole_scoring(records), _longest(records, LATENCY)
    share = config.confirmed_share()
    searching = config.evaluation.latency.max_seconds
    timed = confirm.max_seconds or searching
    # A least number of rounds takes what a timing took beyond the time it was given; a longer one also starts more
    # processes.
    beyond = max(0.0, latency - searching)
    timing = timed + beyond + max(0, _processes(timed) - _processes(searching)) * (RESTART_S + load)
    member = load + share * scoring + timing
    base = share * (_scoring(records[0]) or scoring)
    ablated = len(config.search_space().domains) if confirm.ablation else 0
    confirming = base + (max(1, min(members, confirm.members)) + ablated) * member
    confirming += confirm.race or 0.0
    return confirming + DEFAULT_THREADS_S + load + searching + beyond + EXPORT_S + 2 * load


def _processes(seconds: float) -> int:
    """Number of pairs of processes that a timing goes through."""
    return max(1, min(round(seconds / PROCESS_SECONDS), MAX_PROCESSES))


def _longest(records: Sequence[TrialRecord], phase: str) -> float:
    """The longest that a phase of a recent trial took; the base's where no candidate came that far."""
    seconds = [record.phases[phase] for record in records[1:] if phase in record.phases][-RECENT:]
    return max(seconds or [records[0].phases.get(phase, 0.0)])


def _seconds_until_scored(record: TrialRecord) -> float:
    """Seconds that a candidate takes whatever is measured of it: being built and loaded."""
    return sum(seconds for phase, seconds in record.phases.items() if phase not in (*SCORING, LATENCY))


def _scoring(record: TrialRecord) -> float:
    return sum(record.phases.get(phase, 0.0) for phase in SCORING)


def _whole_scoring(records: Sequence[TrialRecord]) -> float:
    """The longest that a recent candidate takes for all windows, which confirmation scores; as :func:`_longest`."""
    scored = [record for record in records[1:] if {"perplexity", "cosine_distance"} & set(record.metrics)]
    seconds = [_scoring(record) * _windows_for_one(record) for record in scored[-RECENT:]]
    return max(seconds or [_scoring(records[0])])


def _windows_for_one(record: TrialRecord) -> float:
    """Windows that the search asked for / those that were scored before it had seen enough; 1 for samples."""
    if "perplexity" not in record.metrics:
        return 1.0
    protocol = record.metrics["perplexity"].protocol
    return float(protocol["windows_asked"] / protocol["windows"])
