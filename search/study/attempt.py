"""Attempt: one trial's run, repeated where it failed by no fault of its candidate, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Callable

from olivine.evaluators.process.client import ModelProcess
from olivine.passes.errors import OlivineError, SourceError, Unwritable
from olivine.search.builds.client import BuildClient
from olivine.search.records import TrialRecord
from olivine.search.study.trial import TrialInProgress


def attempt(
    run: Callable[[TrialInProgress], None],
    lost: Callable[[TrialInProgress], str | None],
    note: Callable[[str], None],
    earlier: TrialRecord | None = None,
    blameless: tuple[type[OlivineError], ...] = (Unwritable, SourceError),
) -> TrialInProgress:
    """What a trial found, and how it ended.

    Args:
        run: does the trial and writes into the draft what it finds.
        lost: says, after an error, what the trial had lost that was no fault of its candidate: it is run once more.
        note: told of that.
        earlier: what other workers found in the parts before.
        blameless: errors that are no candidate's fault and end the study.
    """
    draft = TrialInProgress.after(earlier)
    try:
        try:
            run(draft)
        except (OlivineError, OSError):
            if (what := lost(draft)) is None:
                raise
            note(what)
            draft = TrialInProgress.after(earlier)
            run(draft)
    except blameless:
        raise
    except OlivineError as error:
        draft.failed(error)
    return draft


def lost(base: ModelProcess | None, builder: BuildClient, draft: TrialInProgress) -> str | None:
    """What a trial lost that was no fault of its candidate, and what is done; None where it failed by itself.

    Args:
        base: the resident base; None in the trial of the base itself.
        builder: built the candidate.
        draft: of the trial.
    """
    if base is not None and not base.usable:
        return "the base's process died under way; base and candidate are loaded again"
    if draft.artifact is not None and not builder.still_has(draft.artifact):
        return "its files in the cache were deleted or changed; it is built again"
    return None
