"""Arguments that several commands take, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from olivine.passes.errors import UsageError

if TYPE_CHECKING:
    from olivine.search.config.graph import GraphStudyConfig
    from olivine.search.config.language import LanguageStudyConfig

#: What ``model`` of a command may be.
MODEL = "hub id, checkpoint folder, GGUF file, ONNX GenAI folder or demo:... model"


def share(text: str) -> float:
    """Parse ``2%`` or 0.02."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no share between 0 and 1; give it as 2% or 0.02")
    return number


def positive(text: str) -> int:
    """Parse a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no whole number above 0")
    return int(text)


def add_model(parser: argparse.ArgumentParser, text: str = MODEL) -> None:
    """Declare a model."""
    parser.add_argument("model", help=text)


def add_hub_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of a model of the hub."""
    parser.add_argument("--revision", help="branch, tag or commit of a hub model")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code that the checkpoint brings")


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the folder that a command makes."""
    parser.add_argument("--to", type=Path, required=True, metavar="DIR", help="the folder to make")
    parser.add_argument("--force", action="store_true", help="replace an existing folder")


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
