"""The source as a whole: its packages are those that pyproject.toml installs."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
#: The three top-level folders that hold source -> the package each is installed as.
SOURCE = {folder: package for package, folder in SETUPTOOLS["package-dir"].items() if "/" not in folder}
SOURCE_FILES = sorted(path for folder in SOURCE for path in (ROOT / folder).rglob("*.py"))


def _packages() -> set[str]:
    """Names of the packages that the folders with an ``__init__.py`` make."""
    inits = [init for folder in SOURCE for init in (ROOT / folder).rglob("__init__.py")]
    return {f"olivine.{'.'.join(init.parent.relative_to(ROOT).parts)}" for init in inits}


def test_every_package_is_listed_and_every_listed_package_is_there() -> None:
    listed = [name for name in SETUPTOOLS["packages"] if name.startswith(tuple(SOURCE.values()))]
    assert sorted(listed) == sorted(_packages())


def test_every_folder_with_source_is_a_package() -> None:
    folders = {path.parent for folder in SOURCE for path in (ROOT / folder).rglob("*.py")}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_files_that_are_no_code_are_installed_with_their_package() -> None:
    matched = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        if package.startswith(tuple(SOURCE.values()))
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")[1:]).glob(pattern)
    }
    data = {
        path
        for folder in SOURCE
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    assert sorted(data) == sorted(matched)


def test_a_folder_holds_at_most_16_source_files() -> None:
    files = Counter(str(path.parent.relative_to(ROOT)) for path in SOURCE_FILES)
    assert {folder: count for folder, count in files.items() if count > 16} == {}
