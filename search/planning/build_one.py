"""``olivine build``: build and export one recipe, without a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.store.cache import DEFAULT_MAX_BYTES, scratch_folder
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.builds.study_cache import open_cache
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import AnyConfig, parse_config
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.config.yaml_file import read_value
from olivine.search.export.folder import check_target
from olivine.search.study.export_candidate import build_alone, candidate_manifest
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.registry import workload_of


@dataclass(frozen=True)
class GraphInputs:
    """The inputs of a graph, as a study of it describes them.

    Attributes:
        yaml: the section ``inputs:`` of a study.
        architecture: of an .onnx file, for fusion; None where the model says it.
    """

    yaml: str
    architecture: str | None = None


@dataclass(frozen=True)
class BuildRequest:
    """A model and the recipe to build of it.

    Attributes:
        model: as ``model:`` of a study takes it.
        settings: axis -> value as a YAML writes it; axes that are not named have the default of new builds.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: run code that the checkpoint brings.
        calibration: text that the recipe of a language model learns from, where it has such a pass.
        inputs: of a graph that is no language model; None for a language model.
        adapters: name -> PEFT folder of each LoRA adapter that is exported with it.
    """

    model: str
    settings: Mapping[str, str]
    revision: str | None = None
    trust_remote_code: bool = False
    calibration: CalibrationText = field(default_factory=CalibrationText)
    inputs: GraphInputs | None = None
    adapters: Mapping[str, Path] = field(default_factory=dict)

    def config(self) -> AnyConfig:
        """A study of this one recipe.

        Raises:
            UsageError: for inputs that are none.
        """
        space = {name: read_value(f"--set {name}=", text) for name, text in self.settings.items()}
        seed = self.calibration.seed
        if self.inputs is not None:
            raw = {
                "model": self.model,
                "inputs": read_value("--inputs ", self.inputs.yaml),
                "space": space,
                "seed": seed,
            }
            about = {} if self.inputs.architecture is None else {"architecture": self.inputs.architecture}
            return parse_config({**raw, **about}, "--inputs")
        learned = {name: getattr(self.calibration, name) for name in ("windows", "window_tokens", "texts", "own")}
        return LanguageStudyConfig.model_validate(
            {
                "model": self.model,
                "revision": self.revision,
                "trust_remote_code": self.trust_remote_code,
                "space": space,
                "evaluation": {"text": self.calibration.text},
                "calibration": learned,
                "seed": seed,
            }
        )


def build_one(request: BuildRequest, to: Path, force: bool) -> Path:
    """Build the recipe of a request and export it to ``to``; with ``force`` also over an earlier export.

    Raises:
        UsageError: for an unknown axis or value, or an existing folder.
        SourceError: when the model can't be found or exported.
        BuildFailed: when it does not build or run.
    """
    config = request.config()
    if mistakes := choice_mistakes(config.space, "--set", {}, config.catalog):
        raise UsageError("\n".join(f"{place}: {message}" for place, message in mistakes))
    choice: dict[str, Scalar] = dict(config.space)
    with scratch_folder("build") as scratch:
        workload = workload_of(config, StudyDir(scratch))
        check_target(to, force, workload.exported)
        source, recipe = workload.source(), workload.catalog.compose(choice)
        cache = open_cache(config.cache, DEFAULT_MAX_BYTES)
        candidate = build_alone(workload, source, recipe, cache, scratch, request.adapters)
        return workload.export(candidate, to, candidate_manifest(workload, source, candidate, choice, {}, {}))
