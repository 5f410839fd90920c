"""What is left of ``stop.total``: when the search has to end, so that confirmation and export still fit.

Nothing is assumed of the model or the machine: how long a candidate and a confirmation take is read off the trials
that ended, so a machine that is busy today ends its search earlier. A candidate that was dropped after a few windows
says less of them than it took: its windows are counted up to all, and its timing is taken from others.
"""

from __future__ import annotations

from collections.abc import Sequence

from olivine.evaluators.latency.rounds import MAX_PROCESSES, PROCESS_SECONDS
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.records import TrialRecord

#: Candidates whose times count: the last ones, since a study may speed up or slow down.
RECENT = 3
#: Proposing, telling and writing a trial; building and loading the base with one thread; checking an export.
PROPOSE_S, DEFAULT_THREADS_S, EXPORT_S = 1.0, 4.0, 5.0
#: Starting a pair of processes anew within a timing, beyond loading their models.
RESTART_S = 2.0


def seconds_spent(records: Sequence[TrialRecord]) -> float:
    """What ended trials took, of whichever process."""
    return sum(sum(record.phases.values()) for record in records)


def seconds_needed(config: LanguageStudyConfig, records: Sequence[TrialRecord], members: int) -> float:
    """What one more candidate, which may be scored and timed in full, the confirmation and the export should take.

    Args:
        config: of the study.
        records: of the base and of at least one candidate.
        members: of the front that would be confirmed, if the config allows so many.
    """
    recent = [record for record in records if record.number > 0][-RECENT:]
    until_scored = max(_seconds_until_scored(record) for record in recent)
    trial = until_scored + _whole_text(records) + _longest(records, "latency") + PROPOSE_S
    return trial + seconds_of_finish(config, records, members)


def seconds_of_finish(config: LanguageStudyConfig, records: Sequence[TrialRecord], members: int) -> float:
    """What confirming so many members, and exporting one, should take; as :func:`seconds_needed`."""
    confirm, evaluation = config.confirm, config.evaluation
    load, quality, latency = _longest(records, "load"), _whole_text(records), _longest(records, "latency")
    windows = (confirm.windows or evaluation.windows) / evaluation.windows
    searching = evaluation.latency.max_seconds
    timed = confirm.max_seconds or searching
    # A least number of rounds takes what a timing took beyond the time it was given; a longer one also starts more
    # processes.
    beyond = max(0.0, latency - searching)
    timing = timed + beyond + max(0, _processes(timed) - _processes(searching)) * (RESTART_S + load)
    member = load + windows * quality + timing
    base = windows * records[0].phases.get("quality", quality)
    ablated = len(config.search_space().domains) if confirm.ablation else 0
    confirming = base + (max(1, min(members, confirm.members)) + ablated) * member
    confirming += confirm.race or 0.0
    return confirming + DEFAULT_THREADS_S + load + searching + beyond + EXPORT_S + 2 * load


def _processes(seconds: float) -> int:
    """How many pairs of processes a timing goes through."""
    return max(1, min(round(seconds / PROCESS_SECONDS), MAX_PROCESSES))


def _longest(records: Sequence[TrialRecord], phase: str) -> float:
    """The longest that a phase of a recent trial took; the base's where no candidate came that far."""
    found = [record.phases[phase] for record in records[1:] if phase in record.phases][-RECENT:]
    return max(found or [records[0].phases.get(phase, 0.0)])


def _seconds_until_scored(record: TrialRecord) -> float:
    """What a candidate takes whatever is found of it: being built and loaded."""
    return sum(seconds for phase, seconds in record.phases.items() if phase not in ("quality", "latency"))


def _whole_text(records: Sequence[TrialRecord]) -> float:
    """The longest that a recent candidate takes for all windows, which confirmation scores; as :func:`_longest`."""
    candidates = [record for record in records[1:] if "quality" in record.phases and "perplexity" in record.metrics]
    found = [record.phases["quality"] * _windows_for_one(record) for record in candidates[-RECENT:]]
    return max(found or [records[0].phases.get("quality", 0.0)])


def _windows_for_one(record: TrialRecord) -> float:
    """Windows that the search asked for / those that were scored before it had seen enough."""
    protocol = record.metrics["perplexity"].protocol
    return float(protocol["windows_asked"] / protocol["windows"])
