"""Ready studies: a YAML per model family and device, from the checkout or from what a wheel brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from olivine.passes.errors import UsageError, did_you_mean

_HERE = Path(__file__).resolve().parents[2]
#: Their folder in a checkout, and beside the packages of a wheel.
PLACES = (_HERE / "configs" / "recipes", _HERE / "recipes")


@dataclass(frozen=True)
class ReadyStudy:
    """One YAML of the library.

    Attributes:
        name: family and device, such as ``qwen/cpu``.
        path: the file.
        purpose: the purpose that its header states.
    """

    name: str
    path: Path
    purpose: str


def ready_studies(places: tuple[Path, ...] = PLACES) -> list[ReadyStudy]:
    """All ready studies, by name.

    Raises:
        UsageError: when this installation has none.
    """
    home = next((place for place in places if place.is_dir()), None)
    if home is None:
        raise UsageError("this installation brings no recipes; they lie in configs/recipes of a checkout")
    return [
        ReadyStudy(f"{path.parent.name}/{path.stem}", path, _purpose(path)) for path in sorted(home.glob("*/*.yaml"))
    ]


def ready_study(name: str) -> ReadyStudy:
    """The ready study of a name.

    Raises:
        UsageError: for an unknown name; the message says the nearest one.
    """
    by_name = {study.name: study for study in ready_studies()}
    if name not in by_name:
        raise UsageError(f"unknown recipe '{name}'. {did_you_mean(name, by_name)}")
    return by_name[name]


def copy_ready_study(name: str, to: Path) -> Path:
    """Copy a ready study to a new file, without its first line, which says where the schema lies in the checkout.

    Raises:
        UsageError: for an unknown name, or an existing file.
    """
    study = ready_study(name)
    if to.exists():
        raise UsageError(f"{to} exists already; give --to another file")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(study.path.read_text(encoding="utf-8").partition("\n#\n")[2], encoding="utf-8")
    return to


def _purpose(path: Path) -> str:
    mark = "# Purpose:"
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix(mark).strip() for line in lines if line.startswith(mark)), "")
