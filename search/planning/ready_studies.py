"""Ready recipes: a study per model family and device, from the checkout or from what a wheel brings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from olivine.passes.errors import UsageError, did_you_mean

_HERE = Path(__file__).resolve().parents[2]
#: Where they lie in a checkout, and beside the packages of a wheel.
PLACES = (_HERE / "configs" / "recipes", _HERE / "recipes")


@dataclass(frozen=True)
class ReadyStudy:
    """One YAML of the library.

    Attributes:
        name: family and device, such as ``qwen/cpu``.
        path: the file.
        purpose: what its header says that it is for.
    """

    name: str
    path: Path
    purpose: str


def ready_recipes(places: tuple[Path, ...] = PLACES) -> list[ReadyStudy]:
    """All recipes, by name.

    Raises:
        UsageError: when this installation has none.
    """
    home = next((place for place in places if place.is_dir()), None)
    if home is None:
        raise UsageError("this installation brings no recipes; they lie in configs/recipes of a checkout")
    return [
        ReadyStudy(f"{path.parent.name}/{path.stem}", path, _purpose(path)) for path in sorted(home.glob("*/*.yaml"))
    ]


def ready_recipe(name: str) -> ReadyStudy:
    """The recipe of a name.

    Raises:
        UsageError: naming the nearest one, where there is none.
    """
    found = {recipe.name: recipe for recipe in ready_recipes()}
    if name not in found:
        raise UsageError(f"unknown recipe '{name}'. {did_you_mean(name, found)}")
    return found[name]


def copy_recipe(name: str, to: Path) -> Path:
    """Copy a recipe to a file that is not there yet; its first line, the place of the schema, stays behind.

    Raises:
        UsageError: for an unknown name, or an existing file.
    """
    source = ready_recipe(name)
    if to.exists():
        raise UsageError(f"{to} exists already; give --to another file")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(source.path.read_text(encoding="utf-8").partition("\n#\n")[2], encoding="utf-8")
    return to


def _purpose(path: Path) -> str:
    mark = "# Purpose:"
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line.removeprefix(mark).strip() for line in lines if line.startswith(mark)), "")
