"""The source as a whole: its packages are those that pyproject.toml installs."""

from __future__ import annotations

import ast
import statistics
import tomllib
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
#: The three top-level folders that hold source -> the package each is installed as.
SOURCE = {folder: package for package, folder in SETUPTOOLS["package-dir"].items() if "/" not in folder}
SOURCE_FILES = sorted(path for folder in SOURCE for path in (ROOT / folder).rglob("*.py"))
QUESTION_WORDS = {"What", "Whether", "Which", "How", "Where", "Who", "Whom", "Whose"}


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


def test_no_source_file_has_more_than_300_lines_and_half_of_them_fewer_than_130() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCE_FILES}
    assert {name: length for name, length in lengths.items() if length > 300} == {}
    assert statistics.median(length for name, length in lengths.items() if not name.endswith("__init__.py")) < 130


def test_no_docstring_opens_with_a_question_word() -> None:
    """A docstring says what the thing does or is: verb, object, condition."""
    openings = [
        f"{path.relative_to(ROOT)}: {text.splitlines()[0]}"
        for path in SOURCE_FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and (text := ast.get_docstring(node))
        and text.split()[0] in QUESTION_WORDS
    ]
    assert openings == []
