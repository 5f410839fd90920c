"""Workload: a kind of model, with all that its studies do differently from those of other kinds.

It says what a study builds, measures in which order, exports and writes into front.csv. Everything else of a study
(loop, resume, time limits, pruning, confirmation, race, ablation, workers, report) is the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from olivine.evaluators.metric import ModelKind
from olivine.evaluators.process.client import Loop
from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import Scalar
from olivine.passes.catalog import Catalog
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.recipe import Recipe
from olivine.passes.store.cache import Cache
from olivine.search.config.language import LmEvalConfig
from olivine.search.config.load import AnyConfig
from olivine.search.front_csv import FrontColumns
from olivine.search.records import Metrics, TrialRecord
from olivine.search.samplers.cost_model import CostModel
from olivine.search.samplers.masks import Masks
from olivine.search.samplers.memory_mask import MemoryMask
from olivine.search.workloads.stage import Split, Stage


class LearnedFrom(Protocol):
    """Text or samples that passes of a study learn from."""

    @property
    def key(self) -> str:
        """Its name in build requests: the key of a cache entry, or the path of a file."""
        ...

    @property
    def entries(self) -> tuple[str, ...]:
        """Keys of the cache entries that hold it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on text or samples that could not be had."""
        ...

    def flags(self) -> list[str]:
        """Flags of ``olivine build`` that give the same text or samples."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Its description in a manifest."""
        ...


class Source(Protocol):
    """A model that exists, as ``model:`` names it."""

    @property
    def model(self) -> str:
        """The ``model:`` that it was found from."""
        ...

    @property
    def revision(self) -> str | None:
        """The commit of a hub model."""
        ...

    def about(self) -> Mapping[str, Any]:
        """Name, kind, architecture, key, and what else is known of it, for environment.json and manifests."""
        ...


SourceT = TypeVar("SourceT", bound=Source)


@dataclass(frozen=True)
class Candidate:
    """A built candidate.

    Attributes:
        recipe: its steps.
        artifact: its folder in the cache.
        learned: text or samples of its study, where there are some.
        base_agreement: proof that the float base agrees with its checkpoint, where there is one.
        notes: sentences on what passes left undone.
        adapters: that are exported with it, where there are some.
    """

    recipe: Recipe
    artifact: ModelArtifact
    learned: LearnedFrom | None = None
    base_agreement: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    adapters: AdapterSet | None = None


class Workload(Protocol[SourceT]):
    """A kind of model, bound to the config of one study and to the folder where its evaluators keep their files."""

    @property
    def config(self) -> AnyConfig:
        """Of the study."""
        ...

    @property
    def kind(self) -> ModelKind:
        """Of model."""
        ...

    @property
    def catalog(self) -> Catalog:
        """Axes and passes of such models."""
        ...

    @property
    def libraries(self) -> tuple[str, ...]:
        """Packages whose versions a trial record keeps."""
        ...

    @property
    def fixed(self) -> tuple[str, ...]:
        """Parts of the config that make a study another one when they change."""
        ...

    @property
    def columns(self) -> FrontColumns:
        """Metrics of front.csv."""
        ...

    @property
    def exported(self) -> str:
        """A file that every exported folder has."""
        ...

    @property
    def loop(self) -> Loop:
        """Runs the models."""
        ...

    @property
    def audit(self) -> float:
        """Share of the candidates dropped on few windows that are measured in full anyway."""
        ...

    @property
    def lm_eval(self) -> LmEvalConfig | None:
        """Tasks of lm-eval that the confirmed front is scored on."""
        ...

    def identity(self) -> dict[str, Any]:
        """The fixed parts of the config with their values, less what may be added to a finished study."""
        ...

    def check_data(self) -> dict[str, str]:
        """Look up data that the study learns from and measures on, before any work.

        Returns:
            Key of the config -> digest of the content that it names.

        Raises:
            UsageError: when it is not there, or does not fit the model.
        """
        ...

    def source(self, revision: str | None = None) -> SourceT:
        """Find the model of the config; ``revision`` is the commit that a hub model was measured at.

        Raises:
            SourceError: when there is none, or it can't be built from.
        """
        ...

    def cache_limit(self, source: SourceT) -> int:
        """Most bytes that the builds of the study take in the cache, where the config does not say."""
        ...

    def base_choice(self) -> dict[str, Scalar]:
        """The choice that the float base of the study is built of."""
        ...

    @property
    def usual_threads(self) -> int:
        """Threads that the runtime takes by default; 0 for all cores."""
        ...

    def float_recipe(self, recipe: Recipe) -> Recipe | None:
        """The float model that text or samples are made ready with; None where ``recipe`` is exported without any."""
        ...

    def request(self, source: SourceT, recipe: Recipe, learned: str | None) -> dict[str, Any]:
        """The part of a build request that names the model and, by its key, what a recipe learns from; JSON."""
        ...

    def learn_from(self, base: ModelArtifact, cache: Cache) -> LearnedFrom | None:
        """Make ready the text or samples of the study; None where no candidate needs any.

        Raises:
            UsageError: when they can't be read, or do not fit the base.
        """
        ...

    def stages(self, base: ModelArtifact, metrics: Metrics, split: Split) -> Sequence[Stage]:
        """The stages that candidates go through.

        Args:
            base: the built base.
            metrics: of the base in the search; empty while the base itself is measured.
            split: of text or samples.

        Raises:
            UsageError: when text or samples can't be read, or do not fit the base.
        """
        ...

    def reading(self, metrics: Metrics) -> dict[str, float]:
        """The base's times that all workers of a study go by, from its metrics in the search."""
        ...

    def model_bytes(self, artifact: ModelArtifact) -> int:
        """Bytes of the graph and its weights."""
        ...

    @property
    def one_behind(self) -> bool:
        """A proposal does not know the last result, so that the next build can begin before it is there."""
        ...

    def sampler(self, masks: Masks) -> str:
        """The sampler that the config names, or the one that ``auto`` stands for."""
        ...

    def kernel_probe(self, base: ModelArtifact, cache: Path) -> Callable[[], Masks] | None:
        """Finds the kernels that are not proposed on this machine; None where none is probed."""
        ...

    def memory_mask(self, base: ModelArtifact, record: TrialRecord) -> MemoryMask | None:
        """Tells which recipes can't keep a limit on the memory that they are deployed in; None without one.

        Args:
            base: the base.
            record: of the base.

        Raises:
            UsageError: when no recipe of the space can keep it.
        """
        ...

    def cost_model(
        self, base: TrialRecord, losses: Callable[[Recipe], Mapping[str, LayerLoss]], masks: Masks
    ) -> CostModel:
        """Predicts candidates before they are built.

        Args:
            base: record of the base.
            losses: tells the expected loss of each layer of a recipe's float graph.
            masks: measurements of the kernel probe.

        Raises:
            PassRefused: when no such prediction can be made.
        """
        ...

    def export(self, candidate: Candidate, to: Path, manifest: Mapping[str, Any], picture: str = "") -> Path:
        """Write a candidate as a folder that runs by itself, check it in a fresh process, and add its manifest.

        Raises:
            ModelProcessFailed: when the copy does not run.
        """
        ...

    def rebuild(self, commit: str | None, choice: Mapping[str, Scalar], learned: LearnedFrom | None) -> str:
        """The command that builds the same bytes again."""
        ...


#: A workload whose source goes from one of its methods to another, and is not looked at between.
AnyWorkload = Workload[Any]
