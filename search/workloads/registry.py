"""The kinds of models that there are, by the config of a study."""

from __future__ import annotations

from collections.abc import Mapping

from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import AnyConfig
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.graph import GraphWorkload
from olivine.search.workloads.language import LanguageWorkload
from olivine.search.workloads.workload import AnyWorkload


def workload_of(config: AnyConfig, folder: StudyDir, reading: Mapping[str, float] | None = None) -> AnyWorkload:
    """The workload of a study.

    Args:
        config: of the study.
        folder: where its evaluators keep files.
        reading: the base's times as the worker that leads has measured them; None where this process leads.
    """
    if isinstance(config, GraphStudyConfig):
        return GraphWorkload(config, folder, reading)
    return LanguageWorkload(config, folder, reading)
