"""``olivine optimize``: one line from a model to a folder that is worth shipping, within a budget of time."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import psutil
import yaml
from rich.console import Console

from olivine.evaluators.metric import HEADLINES
from olivine.passes.artifact import write_atomic
from olivine.passes.base import Scalar
from olivine.passes.errors import UsageError
from olivine.passes.export.export import float_refusal
from olivine.passes.providers import PROVIDERS
from olivine.passes.quantize.precisions import MIXED, is_integer
from olivine.passes.sources.source import Source, resolve
from olivine.passes.store.atomic_files import make_folder
from olivine.passes.store.cache import cache_root
from olivine.search.builds.calibration_text import CalibrationText
from olivine.search.cli.commands.doctor import existing_folder
from olivine.search.config.language import LanguageStudyConfig, load_config, parse_config
from olivine.search.export.folder import check_target, copy_model
from olivine.search.export.trial import build_one
from olivine.search.export.verify import verify_folder
from olivine.search.planning.auto_config import choose, stop_with, text_of
from olivine.search.planning.machine_speed import probe_machine
from olivine.search.planning.optimize_request import OptimizeRequest
from olivine.search.planning.pick_provider import pick_provider
from olivine.search.planning.plan import require_room
from olivine.search.planning.presets import SearchScope, single
from olivine.search.planning.provider_check import require_providers
from olivine.search.records import StudyDir
from olivine.search.report.formatting import measured_text, title
from olivine.search.study.run import run_study

#: Copying and checking what was exported.
DELIVERY_S = 10.0


def optimize(
    request: OptimizeRequest, to: Path, force: bool, save_config: Path | None, out: Console, err: Console
) -> int:
    """Search, export to ``to`` and verify; with a budget of 0, or nothing to search, build one recipe.

    Args:
        request: what was asked.
        to: the folder to make; the study lies beside it, with ``-study`` at its end.
        force: whether an existing folder is replaced.
        save_config: where the YAML of what ran is written.
        out: where is said what was chosen and why.
        err: where is said why it stopped.

    Returns:
        The exit code.

    Raises:
        UsageError: for an existing folder, a precision without kernels, or a budget that is too small.
        NoCandidate: when nothing keeps the allowed loss (exit code 3).
        OlivineError: when the model can't be found, built or measured.
    """
    began = time.monotonic()
    if not to.name:
        raise UsageError(f"--to {to}: give the folder a name of its own")
    check_target(to, force)
    provider = pick_provider(request)
    if request.precision and (refusal := float_refusal(provider[0], request.precision)) is not None:
        raise UsageError(f"--precision: {refusal}")
    source = resolve(request.model, revision=request.revision, trust_remote_code=request.trust_remote_code)
    if request.precision == MIXED and source.kind == "onnx":
        raise UsageError(
            f"--precision: '{MIXED}' learns from a checkpoint which layer needs what; {source.name} is a graph"
        )
    precision = request.precision or _fixed(provider[0])
    if request.budget_s == 0 or (precision and not is_integer({"precision": precision})):
        return _build(request, source, provider, precision or "int8", to, force, save_config, out)
    folder = StudyDir(to.with_name(f"{to.name}-study"))
    config = _study(request, source, provider, folder, out)
    if save_config is not None:
        _save(save_config, config, request, to, out)
    left = max(1.0, request.budget_s - (time.monotonic() - began) - DELIVERY_S)
    config = config.model_copy(update={"stop": config.stop.model_copy(update={"total": left})})
    require_providers(config)
    require_room(config)
    make_folder(folder.root)
    request.store(folder.root)
    code = run_study(config, folder.root, None, folder.config_path, out, err, again=request.command(to))
    if code:
        return code
    copy_model(folder.best_path, to)
    _deliver(to, out)
    selection = folder.selection()
    confirmed = selection["confirmed"][str(selection["trial"])]
    told = ", ".join(f"{title(name)} {measured_text(name, confirmed[name])}" for name in HEADLINES if name in confirmed)
    out.print(f"against the float base: {told}", markup=False)
    return 0


def _fixed(provider: str) -> str:
    """The float precision of a provider that takes no integer weights; empty for all others."""
    found = PROVIDERS[provider]
    return found.floats[0] if found.refusal("int8") is not None else ""


def _study(
    request: OptimizeRequest, source: Source, provider: tuple[str, str], folder: StudyDir, out: Console
) -> LanguageStudyConfig:
    """The study of the request: a new one, or the one that an earlier call began."""
    if folder.config_path.is_file():
        request.check_same(folder.root)
        _say([("study", f"goes on with {folder.root}: {len(folder.trials())} trials are there")], out)
        config = load_config(folder.config_path)
        stop = stop_with(config, source, request.budget_s, probe_machine(existing_folder(cache_root())))
        return config.model_copy(update={"stop": stop})
    rates = probe_machine(existing_folder(cache_root()))
    chosen = choose(request, source, provider, rates, psutil.virtual_memory().available)
    _say([*chosen.lines, ("study", f"{folder.root}; the same command goes on with it")], out)
    return chosen.config


def _build(
    request: OptimizeRequest,
    source: Source,
    provider: tuple[str, str],
    precision: str,
    to: Path,
    force: bool,
    save_config: Path | None,
    out: Console,
) -> int:
    """One good recipe, without a search."""
    text = text_of(request, source)
    exported = source.kind != "onnx"
    choice = single(provider[0], request.target, precision, SearchScope(mixes=exported, fuses=exported))
    why = "a budget of 0 measures nothing" if request.budget_s == 0 else f"{precision} leaves nothing to search"
    if not request.precision:
        why += f"; without --precision it is {precision}, which loses least" if is_integer(choice) else ""
    words = ", ".join(f"{axis} {value}" for axis, value in choice.items())
    learned = f"; GPTQ learns from {text if isinstance(text, str) else text.get('file') or text['dataset']}"
    _say(
        [
            ("model", f"{source.name}: {source.architecture}, weights in {source.dtype}"),
            ("provider", f"{provider[0]}: {provider[1]}"),
            ("recipe", f"{words}{learned if choice.get('algorithm') == 'gptq' else ''}"),
            ("why", f"{why}; how much it loses and gains: olivine eval and olivine bench"),
        ],
        out,
    )
    if save_config is not None:
        _save(save_config, _single_config(request, text, choice), request, to, out)
    settings = {axis: yaml.safe_dump(value).removesuffix("...\n").strip() for axis, value in choice.items()}
    calibration = CalibrationText(text)
    build_one(request.model, request.revision, request.trust_remote_code, settings, to, force, calibration)
    _deliver(to, out)
    return 0


def _single_config(request: OptimizeRequest, text: object, choice: dict[str, Scalar]) -> LanguageStudyConfig:
    """The study that measures one choice."""
    raw = {"model": request.model, "space": choice, "evaluation": {"text": text}, "stop": {"trials": 1}}
    given = {"revision": request.revision, "trust_remote_code": request.trust_remote_code}
    return parse_config(raw | {name: value for name, value in given.items() if value}, "what 'olivine optimize' chose")


def _save(path: Path, config: LanguageStudyConfig, request: OptimizeRequest, to: Path, out: Console) -> None:
    header = (
        f"# What this ran: {request.command(to)}\n# Again:         olivine run {path} --out results/{config.name}\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, f"{header}\n{config.to_yaml()}")
    out.print(f"the study as YAML: {path}", markup=False)


def _deliver(to: Path, out: Console) -> None:
    found = verify_folder(to)
    out.print(
        f"{to} is ready: {found.files} files with their hashes in olivine.json, loaded in a fresh process, predicts as "
        "it did when it was exported",
        markup=False,
    )
    out.print(f"talk to it: olivine chat {to}", markup=False)


def _say(lines: Iterable[tuple[str, str]], out: Console) -> None:
    for word, sentence in lines:
        out.print(f"{word:<9} {sentence}", markup=False, soft_wrap=True)
