"""Names of files that a model's own files give: they stay in the model's folder, and so do links."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath

from olivine.passes.errors import SourceError


def inside(folder: Path, name: object, what: str) -> Path:
    """The file ``name`` of a folder.

    Args:
        folder: the model's folder.
        name: as a config, an index or a graph gives it.
        what: the config, index or graph that names it, for the message.

    Raises:
        SourceError: when the name leads out of the folder or is none.
    """
    plain = isinstance(name, str) and name not in ("", ".", "..") and "\0" not in name
    if not plain or PurePosixPath(str(name)).name != name or PureWindowsPath(str(name)).name != name:
        raise SourceError(f"{folder}: {what} names the file {str(name)[:200]!r}, which is not in the folder itself")
    return folder / str(name)


def refuse_foreign_links(folder: Path, names: list[str]) -> None:
    """Refuse a folder whose files are links out of it: an export would carry along what they lead to.

    The cache of the Hugging Face hub keeps files as links to ``blobs`` beside its snapshots: those are its own.

    Raises:
        SourceError: naming the first such link.
    """
    home = folder.resolve()
    allowed = [home, *([home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [])]
    for name in names:
        path = folder / name
        if path.is_symlink() and not any(path.resolve().is_relative_to(place) for place in allowed):
            raise SourceError(
                f"{folder}: {name} is a link to {path.resolve()}, outside the folder. Put a copy in its place, if the "
                "file belongs to the model."
            )
