"""Arguments that several commands take, and the types of their values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import STANDARD_OUTPUT

if TYPE_CHECKING:
    from olivine.evaluators.scenario.scenario import Scenario
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.config.language import LanguageStudyConfig

#: Names of adapters: of files, and of models in requests.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: What ``model`` of a command may be.
MODEL = "hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model"


def share(text: str) -> float:
    """Parse ``2%`` or 0.02."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        from olivine.search.config.quantities import spelling_hint

        hint = spelling_hint(text)
        raise argparse.ArgumentTypeError(f"'{text}' is no share between 0 and 1; give it as 2% or 0.02{hint}")
    return number


def seconds(text: str) -> float:
    """Parse ``30s``, ``1.5m`` or a number of seconds."""
    from olivine.search.config.quantities import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def user_path(text: str) -> Path:
    """Parse a path; ``~`` is a home folder, also where the shell has not replaced it (``--out=~/study``)."""
    return Path(os.path.expanduser(text))


def study_folder(text: str) -> Path:
    """Parse the name of a study folder, which may exist, or to which a link leads; a file in its way is a mistake."""
    path = user_path(text)
    if path.is_symlink() and not path.exists():
        path = Path(os.path.realpath(path))
    _existing_part(path)
    return path


def target_folder(text: str) -> Path:
    """Parse the name of a folder to make; a link stands for the folder that it leads to, which may not exist yet."""
    path = user_path(text)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
    if not path.exists():
        _require_permission(path, _existing_part(path))
    return path


def target_file(text: str) -> Path:
    """Parse the name of a file to write, ``-`` for standard output; one that can't be written is a mistake at once."""
    path = user_path(text)
    if str(path) in STANDARD_OUTPUT:
        return path
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder; give a file")
    _require_permission(path, path if path.exists() else _existing_part(path))
    return path


def _existing_part(path: Path) -> Path:
    """The folder itself, or the nearest one above it that exists."""
    real = Path(os.path.realpath(path))
    place = next(place for place in (real, *real.parents) if place.exists())
    if not place.is_dir():
        raise argparse.ArgumentTypeError(f"{path} can't be made: {place} is no folder")
    return place


def _require_permission(path: Path, place: Path) -> None:
    if not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"{path} can't be written: there is no permission for {place}")


def add_model(parser: argparse.ArgumentParser, text: str = MODEL) -> None:
    """Declare a model."""
    parser.add_argument("model", help=text)


def add_hub_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a model of the hub."""
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that the checkpoint brings")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the folder that a command makes."""
    parser.add_argument("--to", type=target_folder, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--force", action="store_true", help="replace an existing folder")


def add_adapters(parser: argparse.ArgumentParser) -> None:
    """Declare ``--adapter NAME=DIR`` of a command that exports."""
    what = "export a LoRA adapter, as PEFT saves it, beside the graph under this name; may be given several times"
    parser.add_argument("--adapter", action="append", default=[], metavar="NAME=DIR", dest="adapters", help=what)


def adapter_folders(words: Iterable[str]) -> dict[str, Path]:
    """Name -> folder of each ``NAME=DIR``.

    Raises:
        UsageError: for one that is no ``NAME=DIR``, a name that is none, or a name that is given twice.
    """
    folders: dict[str, Path] = {}
    for word in words:
        name, equals, folder = word.partition("=")
        if not equals or not folder or not _NAME.fullmatch(name):
            raise UsageError(
                f"--adapter {word}: give it as NAME=DIR, such as legal=./legal-lora; a name has letters, digits, '.', "
                "'_' and '-', and 64 characters at most"
            )
        if name in folders:
            raise UsageError(f"--adapter {word}: the name '{name}' is given twice; each adapter needs one of its own")
        folders[name] = Path(folder).expanduser()
    return folders


def add_scenario(parser: argparse.ArgumentParser, what: str) -> None:
    """Declare ``--scenario NAME``."""
    names = "chat, rag, summarize, code-edit, classify or agent, or a mapping such as '{name: rag, context: 8192}'"
    parser.add_argument("--scenario", metavar="NAME", help=f"{what}: {names}")


def scenario_of(options: argparse.Namespace) -> Scenario | None:
    """The scenario that a command line names; None for none.

    Raises:
        UsageError: for one that is none.
    """
    if options.scenario is None:
        return None
    from olivine.search.config.scenario.section import parse_scenario

    return parse_scenario("--scenario ", options.scenario)


def add_overrides(parser: argparse.ArgumentParser, what: str = "a dotted path of the YAML") -> None:
    """Declare ``--set KEY=VALUE``."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=f"set {what}; repeatable"
    )


def overrides(words: Sequence[str]) -> dict[str, str]:
    """Key -> value of each ``--set``.

    Raises:
        UsageError: for one that is no ``KEY=VALUE``.
    """
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {word}: write it as KEY=VALUE")
        pairs[key] = value
    return pairs


def load_study(
    options: argparse.Namespace, more: Mapping[str, object] | None = None
) -> LanguageStudyConfig | GraphStudyConfig:
    """Read the study that ``CONFIG`` and ``--set`` describe.

    Args:
        options: parsed arguments with ``config``, and with ``overrides`` where the command takes ``--set``.
        more: dotted path of the YAML -> value of an option of its own; None where the option is not given.

    Raises:
        UsageError: naming every mistake of the YAML.
    """
    from olivine.search.config.load import load_config
    from olivine.search.study.warm_start import warm_started

    own = {key: str(value) for key, value in (more or {}).items() if value is not None}
    return warm_started(load_config(options.config, overrides(getattr(options, "overrides", [])) | own))
