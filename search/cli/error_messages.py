"""Errors of the system and of libraries that a person can do something about, in words that say what."""

from __future__ import annotations

from olivine.passes.errors import OlivineError, unwritable

#: How long a study waits for another program that holds its database.
LOCK_WAIT_S = 60.0


def trouble(error: BaseException) -> OlivineError | None:
    """What a person is told instead of a library's error; None where we know nothing better."""
    if (disk := unwritable(error)) is not None:
        return disk
    cause: BaseException | None = error
    while cause is not None:
        if "database is locked" in str(cause):
            return OlivineError(
                f"study.db is locked: another program has held it for {LOCK_WAIT_S:g} s. Every finished trial is kept "
                "in trials/. Close that program, then run the same command again."
            )
        if "file is not a database" in str(cause) or "disk image is malformed" in str(cause):
            return OlivineError(
                "study.db is damaged. Every finished trial is kept in trials/: move study.db away, then run the same "
                "command again, and the database is made anew from them."
            )
        cause = cause.__cause__ or cause.__context__
    return None
