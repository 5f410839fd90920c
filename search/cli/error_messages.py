"""Errors of the system and of libraries that a person can do something about, in words that say what."""

from __future__ import annotations

from olivine.passes.errors import OlivineError, unwritable


def clear_error(error: BaseException) -> OlivineError | None:
    """An error that says what to do instead of a library's; None where no better words are known."""
    if (disk := unwritable(error)) is not None:
        return disk
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, NotADirectoryError | FileExistsError) and cause.filename:
            return OlivineError(
                f"{cause.filename} can't be made: a file is in its place or above it. Move it, or name another folder "
                "(--out, OLIVINE_CACHE)."
            )
        if "database is locked" in str(cause):
            return OlivineError(
                "study.db is locked: another program keeps it open. Every finished trial is kept in trials/. Close "
                "that program, then run the same command again."
            )
        if "file is not a database" in str(cause) or "disk image is malformed" in str(cause):
            return OlivineError(
                "study.db is damaged. Every finished trial is kept in trials/: move study.db away, then run the same "
                "command again, and the database is made anew from them."
            )
        cause = cause.__cause__ or cause.__context__
    return None
