"""``olivine optimize``: one line from a model to a folder that is worth shipping, within a budget of time."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import yaml
from rich.console import Console

from olivine.evaluators.metric import HEADLINES
from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.export.export import float_refusal
from olivine.passes.precisions import MIXED, is_integer
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.model_shape import head_is_embedding
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.atomic_files import make_folder, write_target
from olivine.passes.store.cache import cache_root
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import language_config, load_config, parse_config
from olivine.search.config.scenario.effects import check_fits
from olivine.search.export.folder import check_target, copy_model
from olivine.search.export.verify import verify_folder
from olivine.search.planning.auto_config import choose, stop_with, text_of
from olivine.search.planning.build_one import BuildRequest, build_one
from olivine.search.planning.estimate.fit import fitting_choice, require_fit
from olivine.search.planning.machine_speed import MachineRates, existing_folder, probe_machine
from olivine.search.planning.optimize_request import OptimizeRequest
from olivine.search.planning.peers import Peers
from olivine.search.planning.pick_provider import ProviderChoice, pick_provider
from olivine.search.planning.preflight import require_providers, require_room
from olivine.search.planning.presets import MEASUREMENT_BUDGETS, MeasurementBudget, SearchScope, good_choice
from olivine.search.report.formatting import measured_text, title
from olivine.search.report.report import write_report
from olivine.search.report.say import say
from olivine.search.report.sections import loss_by_text
from olivine.search.report.tables import peers_table
from olivine.search.study.run import run_study
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.codes import check_codes
from olivine.search.workloads.language import LanguageWorkload
from olivine.search.workloads.newer_defaults import newer_defaults

#: Copying and checking the export.
DELIVERY_S = 10.0


def probe_here() -> MachineRates:
    """Measure the speed of this machine, and of the disk that holds the cache."""
    return probe_machine(existing_folder(cache_root()))


@dataclass(frozen=True)
class Optimizer:
    """A request and where its result goes.

    Attributes:
        request: from the command line.
        to: the folder to make; the study lies beside it, with ``-study`` at its end.
        out: the console that says what was chosen and why.
        force: replace an existing folder.
        save_config: file for the YAML of what ran, or None.
        probe: measures the speed of this machine.
        budgets: the ways to measure a candidate, from the most thorough to the least.
    """

    request: OptimizeRequest
    to: Path
    out: Console
    force: bool = False
    save_config: Path | None = None
    probe: Callable[[], MachineRates] = probe_here
    budgets: tuple[MeasurementBudget, ...] = MEASUREMENT_BUDGETS

    @property
    def study_dir(self) -> StudyDir:
        """The folder of the study, where one is needed."""
        return StudyDir(self.to.with_name(f"{self.to.name}-study"))

    def run(self, err: Console) -> int:
        """Search, export and verify; with a budget of 0, or nothing to search, build one recipe.

        Args:
            err: the console that says why a study stopped.

        Returns:
            The exit code.

        Raises:
            UsageError: for an existing folder, a precision without kernels, or a budget that is too small.
            NoCandidate: when nothing keeps the allowed loss (exit code 3).
            OlivineError: when the model can't be found, built or measured.
        """
        began, request = time.monotonic(), self.request
        if not self.to.name:
            raise UsageError(f"--to {self.to}: give the folder a name of its own")
        check_target(self.to, self.force)
        provider = pick_provider(request)
        if request.precision and (refusal := float_refusal(provider.name, request.precision)) is not None:
            raise UsageError(f"--precision: {refusal}")
        source = resolve(request.model, revision=request.revision, trust_remote_code=request.trust_remote_code)
        check_fits(request.use(), source)
        check_codes(request.precision, source, "--precision")
        if request.precision == MIXED and source.kind == "onnx":
            raise UsageError(
                f"--precision: '{MIXED}' learns from a checkpoint which layer needs what; {source.name} is a graph"
            )
        precision = request.precision or _only_precision(provider.name)
        if request.budget_s == 0 or (precision and not is_integer({"precision": precision})):
            self._build(source, provider, precision or "int8")
            return 0
        folder = self.study_dir
        peers = self._peers(source, provider, folder)
        config = self.study(source, provider, folder)
        if self.save_config is not None:
            self._save(self.save_config, config)
        left = max(1.0, request.budget_s - (time.monotonic() - began) - DELIVERY_S)
        config = config.model_copy(update={"stop": config.stop.model_copy(update={"total": left})})
        require_providers(config)
        require_fit(config)
        require_room(config)
        make_folder(folder.root)
        request.store(folder.root)
        workload = LanguageWorkload(config, folder)
        code = run_study(workload, folder, self.out, err, resume=request.command(self.to))
        if code:
            return code
        copy_model(folder.best_path, self.to)
        self._verify()
        confirmed = folder.outcome().metrics
        told = [name for name in (*HEADLINES, "deployed_rss_bytes") if name in confirmed]
        values = [f"{title(name)} {measured_text(confirmed[name])}" for name in told]
        say(self.out, f"against the float base: {', '.join(values)}")
        for line in loss_by_text(confirmed):
            say(self.out, line)
        if peers is not None:
            self.out.print(peers_table(peers.compare(config, self.to)))
            write_report(folder)
        return 0

    def study(self, source: Source, provider: ProviderChoice, folder: StudyDir) -> LanguageStudyConfig:
        """The study of the request: a new one, or the one that an earlier call began in ``folder``.

        Raises:
            UsageError: when the folder holds the study of another request, or the budget is too small.
        """
        if folder.config_path.is_file():
            self.request.check_same(folder.root)
            self._say([("study", f"resumes {folder.root}: {len(folder.trials())} trials are there")])
            config = language_config(load_config(folder.config_path))
            stop = stop_with(config, source, self.request.budget_s, self.probe())
            return config.model_copy(update={"stop": stop})
        free_ram_bytes = psutil.virtual_memory().available
        chosen = choose(self.request, source, provider, self.probe(), free_ram_bytes, self.budgets)
        self._say([*chosen.lines, ("study", f"{folder.root}; the same command resumes it")])
        return chosen.config

    def _peers(self, source: Source, provider: ProviderChoice, folder: StudyDir) -> Peers | None:
        """The other engines to compare with; None where none are asked for, or installed."""
        if not self.request.peers:
            return None
        peers = Peers(source, Path(self.request.peers), folder, partial(say, self.out))
        refusal = peers.refusal(provider.name)
        if refusal:
            self._say([("peers", refusal)])
        return None if refusal else peers

    def _build(self, source: Source, provider: ProviderChoice, precision: str) -> None:
        """Build one good recipe, without a search."""
        request, text = self.request, text_of(self.request, source)
        exported = source.kind != "onnx"
        newer, note = newer_defaults(request.model)
        scope = SearchScope(mixes=exported, fuses=exported, shares=exported and head_is_embedding(source))
        good, use = good_choice(provider.name, request.target, precision, scope), request.use()
        if use is not None and request.fit_bytes is not None and provider.name == "cpu":
            wanted = request.target, request.precision
            good = fitting_choice(source, wanted, scope, newer, use, request.fit_bytes)
        choice = {**good, **newer, **({} if use is None else {"context": use.context})}
        why = "a budget of 0 measures nothing" if request.budget_s == 0 else f"{precision} leaves nothing to search"
        if not request.precision and is_integer(choice):
            why += f"; without --precision it is {precision}, which loses least"
        recipe = ", ".join(f"{axis} {value}" for axis, value in choice.items())
        if choice.get("algorithm") == "gptq":
            recipe += f"; GPTQ learns from {text if isinstance(text, str) else text.get('file') or text['dataset']}"
        self._say(
            [
                ("model", f"{source.name}: {source.architecture}, weights in {source.dtype}"),
                ("provider", f"{provider.name}: {provider.why}"),
                ("recipe", recipe),
                ("why", f"{why}; olivine eval and olivine bench measure what it loses and gains"),
                *((("note", note),) if note else ()),
            ]
        )
        if self.save_config is not None:
            self._save(self.save_config, _study_of_one(request, text, choice))
        settings = {axis: yaml.safe_dump(value).removesuffix("...\n").strip() for axis, value in choice.items()}
        calibration = CalibrationText(text)
        build = BuildRequest(request.model, settings, request.revision, request.trust_remote_code, calibration)
        build_one(build, self.to, self.force)
        self._verify()

    def _save(self, path: Path, config: LanguageStudyConfig) -> None:
        header = (
            f"# What this ran: {self.request.command(self.to)}\n"
            f"# Again:         olivine run {shlex.quote(str(path))} --out results/{config.name}\n"
        )
        write_target(path, f"{header}\n{config.to_yaml()}")
        say(self.out, f"the study as YAML: {path}")

    def _verify(self) -> None:
        verified = verify_folder(self.to)
        say(
            self.out,
            f"{self.to} is ready: {verified.files} files with their hashes in olivine.json, loaded in a fresh process, "
            "predicts as it did when it was exported",
        )
        say(self.out, f"talk to it: olivine chat {shlex.quote(str(self.to))}")

    def _say(self, lines: Iterable[tuple[str, str]]) -> None:
        for word, sentence in lines:
            say(self.out, f"{word:<9} {sentence}")


def _only_precision(provider: str) -> str:
    """The float precision of a provider that takes no integer weights; empty for all others."""
    about = PROVIDERS[provider]
    return about.floats[0] if about.refusal("int8") is not None else ""


def _study_of_one(request: OptimizeRequest, text: object, choice: dict[str, Scalar]) -> LanguageStudyConfig:
    """The study that measures one choice."""
    raw: dict[str, object] = {"model": request.model, "space": choice, "evaluation": {"text": text}}
    more = {"revision": request.revision, "trust_remote_code": request.trust_remote_code}
    raw |= {"stop": {"trials": 1}} | {name: value for name, value in more.items() if value}
    return language_config(parse_config(raw, "what 'olivine optimize' chose"))
