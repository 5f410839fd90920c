"""The answers about a YAML before its study runs: its mistakes, and what it will take."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, RootModel

from olivine.passes.errors import UsageError
from olivine.search.answers.shape import Shape
from olivine.search.config.graph import GraphStudyConfig
from olivine.search.config.load import AnyConfig, ConfigMistakes
from olivine.search.planning.plan import Plan, lacks
from olivine.search.planning.preflight import absent_providers
from olivine.search.planning.ready_studies import ReadyStudy
from olivine.search.workloads.graph_task import load_task


class PlaceOfMistake(Shape):
    """A mistake in a YAML."""

    place: str = Field(description="dotted path of the key; empty where the file as a whole is wrong")
    message: str


class Validity(Shape):
    """A YAML that was checked."""

    config: str = Field(description="file")
    valid: bool
    name: str | None
    model: str | None
    mistakes: list[PlaceOfMistake]
    absent_providers: list[str] = Field(description="a sentence for each provider that does not run here")


def check_config(config: AnyConfig) -> None:
    """Refuse the config of a graph whose task can't be read; that of a language model was checked when it was loaded.

    Raises:
        UsageError: naming the task's mistake.
    """
    if isinstance(config, GraphStudyConfig):
        load_task(config)


def valid_answer(path: Path, config: AnyConfig) -> Validity:
    """A YAML without a mistake."""
    absent = list(absent_providers(config))
    return Validity(
        config=str(path), valid=True, name=config.name, model=config.model, mistakes=[], absent_providers=absent
    )


def invalid_answer(path: Path, error: UsageError) -> Validity:
    """A YAML with mistakes."""
    pairs = error.mistakes if isinstance(error, ConfigMistakes) else [("", str(error))]
    mistakes = [PlaceOfMistake(place=place, message=message) for place, message in pairs]
    return Validity(config=str(path), valid=False, name=None, model=None, mistakes=mistakes, absent_providers=[])


class PlannedAxis(Shape):
    """An axis of the search space."""

    name: str
    values: str
    searched: bool
    when: str = Field(description="when it exists; empty: always")
    doc: str


class Needs(Shape):
    """The needs of a study, roughly."""

    float_bytes: float = Field(description="size of the float base")
    smallest_bytes: float = Field(description="size of the smallest candidate")
    largest_bytes: float = Field(description="size of the largest candidate")
    ram_bytes: float
    ram_parts: str = Field(description="what takes the memory, in words")
    disk_bytes: float
    seconds: float


class StudyPlan(Shape):
    """A study before it runs."""

    name: str
    model: str
    axes: list[PlannedAxis]
    facts: dict[str, str]
    candidates: int | None = Field(description="distinct recipes; null where there are too many to count")
    proposed: int | None = Field(description="those that need no masked kernel; null as above")
    masked_kernels: list[str] = Field(description="in a sentence each")
    trials: int = Field(description="candidates that it may measure")
    timeout_seconds: float | None
    sampler: str
    needs: Needs | None = Field(description="null where the model could not be looked at")
    free_ram_bytes: float
    free_disk_bytes: float
    fits: bool | None = Field(description="null where that is not known")
    lacks: list[str] = Field(description="a sentence for each thing that there is too little of")
    unknown: list[str] = Field(description="what could not be estimated, and why")
    absent_providers: list[str]
    assumptions: list[str]
    notes: list[str]


def plan_answer(plan: Plan, notes: list[str]) -> StudyPlan:
    """A plan, and what was said about the YAML on the way to it."""
    estimate = plan.estimate
    needs = None
    if estimate is not None:
        numbers = {name: getattr(estimate, name) for name in Needs.model_fields if name != "ram_parts"}
        needs = Needs(**numbers, ram_parts=estimate.memory_text)
    return StudyPlan(
        name=plan.name,
        model=plan.model,
        axes=[PlannedAxis(**vars(axis)) for axis in plan.axes],
        facts=dict(plan.facts),
        candidates=plan.candidates,
        proposed=plan.proposed,
        masked_kernels=list(plan.masked),
        trials=plan.trials,
        timeout_seconds=plan.timeout_s,
        sampler=plan.sampler,
        needs=needs,
        free_ram_bytes=plan.room.ram_bytes,
        free_disk_bytes=plan.room.disk_bytes,
        fits=plan.fits,
        lacks=lacks(plan),
        unknown=list(plan.unknown),
        absent_providers=list(plan.absent),
        assumptions=list(plan.assumptions),
        notes=notes,
    )


class Recipe(Shape):
    """A ready study."""

    name: str
    purpose: str
    path: str


class Recipes(RootModel[list[Recipe]]):
    """All ready studies, by name."""


def recipes_answer(studies: list[ReadyStudy]) -> Recipes:
    """The ready studies of this installation."""
    return Recipes([Recipe(name=study.name, purpose=study.purpose, path=str(study.path)) for study in studies])
