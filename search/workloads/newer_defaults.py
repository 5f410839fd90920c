"""Defaults that are newer than their key: new studies have them, studies that were begun before do not.

They are those of axes (``Axis.newer_default``), and ``sampler.aim``: goal where ``select:`` has a limit. A resolved
config names them, so a study folder tells by its config.yaml which default it was begun with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.base import Scalar
from olivine.passes.sources import genai_folder
from olivine.passes.transforms.prune_head import PruneHead, pruning_refusal
from olivine.search.config.enqueue import agreed_values
from olivine.search.config.load import AnyConfig, load_config
from olivine.search.samplers.goal import goal_of
from olivine.search.study_dir import StudyDir

#: Axis or key of the config -> value; None where it is not named.
Named = Mapping[str, Scalar | None]
AIM = "sampler.aim"


def newer_defaults(model: str) -> tuple[dict[str, Scalar], str]:
    """The newer defaults that a model can have, by axis, and a sentence on those that it can't; empty for none.

    Args:
        model: as ``model:`` takes it. A folder with a finished graph is looked into; whatever is exported here can have
            all of them.

    Raises:
        SourceError: when such a folder holds no float model.
    """
    name = PruneHead.name
    folder = Path(model).expanduser()
    if (folder / GENAI_CONFIG).is_file():
        genai_folder.check(folder)
        if refusal := pruning_refusal(folder):
            return {name: False}, f"{name} is false, since {model} can't have it. {refusal}"
    return {name: True}, ""


def begin_config(config: AnyConfig, fits: Callable[[AnyConfig], bool] = lambda config: True) -> tuple[AnyConfig, str]:
    """The config of a new study with the newer defaults that its YAML leaves open, and a sentence on those left out.

    Args:
        config: of its YAML.
        fits: tells whether there is room for a study, which then has no newer default that costs too much.

    Raises:
        SourceError: as :func:`newer_defaults`.
    """
    if config.sampler.aim is None and goal_of(config) is not None:
        config = _aimed(config, "goal")
    agreed = agreed_values(config.enqueue, config.catalog)
    axes = [name for name, axis in config.catalog.axes.items() if axis.newer_default is not None]
    named: dict[str, Scalar] = {name: agreed[name] for name in axes if name in agreed and name not in config.space}
    if all(name in named or name in config.space for name in axes):
        return _with(config, named), ""
    values, note = newer_defaults(config.model)
    begun, older = _with(config, {**values, **named}), _with(config, {PruneHead.name: False, **named})
    if begun != older and not fits(begun) and fits(older):
        return older, f"{PruneHead.name} is false: there is no memory for the second model that scores a pruned one"
    return begun, note


def resume_config(config: AnyConfig, begun: Named) -> AnyConfig:
    """The config with newer defaults as a study was begun with, where it asks for nothing else.

    Args:
        config: of the YAML that resumes or joins the study.
        begun: :func:`begun_values` of the study.
    """
    space, aim = dict(config.space), begun.get(AIM)
    if config.sampler.aim is None or (aim is None and config.sampler.aim == "front"):
        config = _aimed(config, aim)
    for name, value in begun.items():
        if name == AIM:
            continue
        default = config.catalog.axes[name].default
        if name not in space and value is not None:
            space[name] = value
        elif value is None and space.get(name) == default:
            del space[name]
    return config.model_copy(update={"space": space})


def begun_values(config: AnyConfig) -> dict[str, Scalar | None]:
    """The values of axes and keys with newer defaults that the resolved config of a study names."""
    axes = {name: config.space.get(name) for name, a in config.catalog.axes.items() if a.newer_default is not None}
    return {**axes, AIM: config.sampler.aim}


def study_config(
    config: AnyConfig, folder: StudyDir, fits: Callable[[AnyConfig], bool] = lambda config: True
) -> tuple[AnyConfig, str]:
    """The config of the study in a folder, resumed where it has records, else begun; with the sentence of the latter.

    Args:
        config: of its YAML.
        folder: of the study.
        fits: as for :func:`begin_config`.

    Raises:
        SourceError: as :func:`newer_defaults`.
    """
    if not folder.config_path.is_file() or not folder.trials():
        return begin_config(config, fits)
    folder.check_format()
    earlier = load_config(folder.config_path)
    return resume_config(config, begun_values(earlier) if earlier.kind == config.kind else {}), ""


def _aimed(config: AnyConfig, aim: Scalar | None) -> AnyConfig:
    return config.model_copy(update={"sampler": config.sampler.model_copy(update={"aim": aim})})


def _with(config: AnyConfig, values: Mapping[str, Scalar]) -> AnyConfig:
    return config.model_copy(update={"space": {**values, **config.space}}) if values else config
