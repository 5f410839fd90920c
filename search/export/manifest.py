"""The content of olivine.json: source, recipe, measurements, versions, hardware and the command that rebuilds it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from olivine.passes.base import Scalar
from olivine.passes.catalog import Catalog
from olivine.passes.recipe import Recipe
from olivine.search.environment import HARDWARE, describe_environment
from olivine.search.records import Metrics, metrics_json


def make_manifest(
    model: Mapping[str, Any],
    recipe: Recipe,
    metrics: Metrics,
    rebuild: str,
    sections: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of an exported model, without its files.

    Args:
        model: name, kind, revision, key, ... of its source, and the ``model:`` that names it as ``source``.
        recipe: its steps.
        metrics: its measurements.
        rebuild: the command that builds the same bytes again.
        sections: further ones: study, selection, calibration, hardware where another machine than this measured it.
    """
    environment = describe_environment()
    return {
        "model": dict(model),
        "recipe": recipe.to_json(),
        "recipe_key": recipe.key,
        "measurements": metrics_json(metrics, samples=False),
        "versions": environment["versions"],
        "hardware": {name: environment[name] for name in HARDWARE},
        "rebuild": rebuild,
        **sections,
    }


def build_command(
    catalog: Catalog, model: str, flags: Sequence[str], choice: Mapping[str, Scalar], learning: Sequence[str] = ()
) -> str:
    """The ``olivine build`` command of a choice.

    Args:
        catalog: of the choice's axes; values that are an axis's one default are left out.
        model: as ``model:`` takes it.
        flags: that say how the model is found.
        choice: the axis values.
        learning: flags that give the same text or samples to learn from.
    """
    full = catalog.canonical(choice)
    changed = {
        name: value
        for name, value in full.items()
        if value != catalog.axes[name].default_for(full) or catalog.axes[name].newer_default is not None
    }
    settings = [f"--set {name}={_yaml(value)}" for name, value in changed.items()]
    return " ".join(["olivine build", shlex.quote(model), "--to DIR", *flags, *settings, *learning])


def _yaml(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
