"""Tasks of lm-eval (EleutherAI's evaluation harness) as an evaluator of model folders; its package is optional."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.protocols import GeneratingProcess
from olivine.evaluators.stats import Interval, jackknife, student
from olivine.passes.errors import OlivineError, UsageError, nearest

#: Exact intervals need none of lm-eval's bootstrap; it asks for at least one draw to give errors of means in groups.
_DRAWS = 100
#: Of a normal distribution, both tails of 5 %.
_NORMAL = 1.96


class TaskFailed(OlivineError):
    """A task whose own data or code failed; the message names its exception."""


@dataclass(frozen=True)
class Tasks:
    """Tasks to measure.

    Attributes:
        names: tasks, groups or tags, as lm-eval names them.
        limit: questions of each task, from its start; None for all.
        include_path: folder with task files of one's own.
    """

    names: tuple[str, ...]
    limit: int | None = None
    include_path: Path | None = None

    def load(self) -> LoadedTasks:
        """Find the tasks and fetch their data sets.

        Raises:
            UsageError: when lm-eval is not installed; for an unknown task or folder; for a task that can't be measured
                here or whose data can't be fetched.
        """
        require_package()
        if self.include_path is not None and not self.include_path.is_dir():
            raise UsageError(f"include_path: there is no folder '{self.include_path}' with task files")
        with _quiet():
            manager = self._manager()
            for name in self.names:
                if name not in manager.task_index:
                    raise UsageError(_unknown(name, manager.all_tasks))
            try:
                groups = manager.load(list(self.names))
            except Exception as error:  # whatever a task's code or its data set's loader raises
                raise UsageError(
                    f"lm-eval can't load {', '.join(self.names)}: {type(error).__name__}: {error}. Its data set comes "
                    "from the hub unless a task file of your own names local files."
                ) from error
            for name, task in groups["tasks"].items():
                _check(name, task)
        return LoadedTasks(self, groups)

    def _manager(self) -> Any:
        """Make lm-eval's index of tasks; that of all its own files takes seconds, so it is made only where needed."""
        from lm_eval.tasks import TaskManager

        if self.include_path is not None:
            own = TaskManager(include_path=str(self.include_path), include_defaults=False)
            if set(self.names) <= set(own.all_subtasks):
                return own
        return TaskManager(include_path=self.include_path and str(self.include_path))


@dataclass(frozen=True)
class LoadedTasks:
    """Tasks with their data sets, which any number of models can be asked.

    Attributes:
        tasks: names and limit.
        groups: tasks and groups as lm-eval holds them.
    """

    tasks: Tasks
    groups: Mapping[str, Any]

    def evaluate(
        self, process: GeneratingProcess, folder: Path, progress: Callable[[int], None] = lambda answered: None
    ) -> list[Measurement]:
        """Ask the model that is loaded in a process.

        Args:
            process: a model's process; of the unpruned twin where the head is pruned.
            folder: what it was loaded from.
            progress: called with the number of requests answered so far.

        Returns:
            A measurement per task and metric, named ``task.metric``; a group stands for its tasks.

        Raises:
            ModelProcessFailed: when the model does not run.
            TaskFailed: when the task itself fails.
        """
        with _quiet(), _seeded():
            from lm_eval.defaults import DEFAULT_OTHER_SEED
            from lm_eval.evaluator import evaluate

            from olivine.evaluators.quality.lm_eval_model import FolderModel

            for task in self.groups["tasks"].values():
                if task.get_config("num_fewshot") is None:
                    task.set_config(key="num_fewshot", value=0)
                task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
            try:
                model = FolderModel(process, folder, progress)
                results = evaluate(
                    lm=model, task_dict=dict(self.groups), limit=self.tasks.limit, bootstrap_iters=_DRAWS
                )
            except OlivineError:
                raise
            except Exception as error:  # a task is somebody else's code
                raise TaskFailed(f"{', '.join(self.tasks.names)} failed: {type(error).__name__}: {error}") from error
        return list(self._measurements(results))

    def _measurements(self, results: Mapping[str, Any]) -> Iterator[Measurement]:
        groups = self.groups.get("groups", {})
        shown = set(results.get("groups", {}))
        inside = {task.task_name for name in shown for task in groups[name].get_all_tasks()}
        inside |= {group.name for name in shown for group in groups[name].get_all_groups()}
        for name, values in results["results"].items():
            if name in inside:
                continue
            members = [t.task_name for t in groups[name].get_all_tasks()] if name in groups else [name]
            for key, value in values.items():
                metric, comma, kind = key.partition(",")
                if not comma or metric.endswith("_stderr") or isinstance(value, str):
                    continue
                answered = [sample for member in members for sample in results["samples"][member]]
                samples = [each[metric] for each in answered if each["filter"] == kind and metric in each]
                error = values.get(f"{metric}_stderr,{kind}")
                interval, estimator, means = self._interval(name, metric, float(value), samples, error)
                yield Measurement(
                    f"{name}.{metric}" + ("" if kind == "none" else f".{kind}"),
                    "1",
                    interval.value,
                    interval.low,
                    interval.high,
                    means,
                    {
                        "task": name,
                        "task_version": results["versions"].get(name),
                        "shots": results["n-shot"].get(name),
                        "limit": self.tasks.limit,
                        "questions": len(samples),
                        "higher_is_better": (results["higher_is_better"].get(name) or {}).get(metric),
                        "interval": estimator,
                        "lm_eval": version("lm_eval"),
                    },
                )

    def _interval(
        self, name: str, metric: str, value: float, samples: Sequence[Any], error: object
    ) -> tuple[Interval, str, tuple[float, ...]]:
        """The value's interval, the name of its estimator, and the samples where the value is their mean."""
        plain = np.array(samples, dtype=np.float64) if all(isinstance(s, int | float) for s in samples) else None
        if plain is not None and len(plain) and np.isclose(plain.mean(), value, rtol=1e-9, atol=1e-12):
            return student(plain), "Student over questions", tuple(float(s) for s in plain)
        if name in self.groups["tasks"] and len(samples) > 1:
            statistic = self.groups["tasks"][name].aggregation().get(metric)
            if statistic is not None:
                return jackknife(samples, statistic), "jackknife over questions", ()
        if isinstance(error, float):
            return Interval(value, value - _NORMAL * error, value + _NORMAL * error), "lm-eval's standard error", ()
        return Interval(value, -np.inf, np.inf), "unknown", ()


def difference(ours: Measurement, base: Measurement) -> Interval | None:
    """Difference of a model from another one, question by question; None where questions can't be paired."""
    if not ours.samples or len(ours.samples) != len(base.samples):
        return None
    return student(np.array(ours.samples) - np.array(base.samples))


def require_package() -> None:
    """Refuse tasks where lm-eval is not installed.

    Raises:
        UsageError: naming the extra that brings it.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError("Tasks need the package lm_eval, which is not installed here: pip install 'olivine[lm-eval]'")


def _check(name: str, task: Any) -> None:
    """Refuse a task that can't be measured by greedy text of a language model."""
    from lm_eval.models.utils import normalize_gen_kwargs

    if getattr(task, "UNSAFE_CODE", False):
        raise UsageError(f"Task '{name}' runs code that models write: use lm-eval itself, in a sandbox")
    if getattr(task, "MULTIMODAL", False):
        raise UsageError(f"Task '{name}' asks about images or sound; models here continue text")
    if task.OUTPUT_TYPE == "generate_until":
        settings = task.get_config("generation_kwargs") or {}
        if normalize_gen_kwargs(settings).get("do_sample"):
            raise UsageError(
                f"Task '{name}' asks for sampled text; models are compared by greedy text here. Set "
                "generation_kwargs.do_sample to false in a task file of your own, and name its folder as include_path"
            )


def _unknown(name: str, known: Sequence[str]) -> str:
    near = nearest(name, known)
    hint = f" Did you mean '{near}'?" if near else ""
    return (
        f"lm-eval {version('lm_eval')} has no task '{name}' among its {len(known)}.{hint} 'lm-eval ls tasks' lists "
        "them, and include_path names a folder with task files of your own."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep lm-eval's own output from the terminal, and let it start no processes for its bootstrap."""
    logger, before = logging.getLogger("lm_eval"), os.environ.get("DISABLE_MULTIPROC")
    level = logger.level
    logger.setLevel(logging.ERROR)
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if before is None:
            del os.environ["DISABLE_MULTIPROC"]
        else:
            os.environ["DISABLE_MULTIPROC"] = before


@contextmanager
def _seeded() -> Iterator[None]:
    """Let tasks that shuffle do so alike for every model, as lm-eval's own command does."""
    state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002 - what tasks use
    random.seed(0)
    np.random.seed(1234)  # noqa: NPY002 - what tasks use
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)  # noqa: NPY002 - what tasks use
