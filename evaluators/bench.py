"""Latency and memory of model folders beside a reference; any ONNX Runtime GenAI folder will do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from olivine.evaluators.latency.baseline_times import BaselineTimes
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.latency.rounds import MIN_ROUNDS
from olivine.evaluators.measurement import Measurement
from olivine.evaluators.memory import Memory
from olivine.evaluators.model_folders import check_context, check_room, in_order, stamped
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.providers.interpreters import comparable_options
from olivine.evaluators.scenario.answers import AnswerLatency
from olivine.evaluators.scenario.deployed import Deployed
from olivine.evaluators.scenario.guesses import MIN_TOKENS, NONE, Guessing
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS, Prompt, read_prompts, thin_prompts, timed_prompt
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.adapters.adapter_file import named_adapter
from olivine.passes.errors import UsageError
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.passes.transforms.prune_head import is_pruned


def bench_folders(
    folders: Sequence[Path],
    reference: Path | None,
    latency: PairedDecoderLatency,
    scenario: Scenario | None = None,
    adapters: Sequence[str] = (),
) -> dict[str, list[Measurement]]:
    """Measure every folder against the reference; two models at most are loaded at the same time.

    Args:
        folders: ONNX Runtime GenAI folders.
        reference: the folder beside which the others are timed; the first folder where there is none.
        latency: how long a pair is timed, and on which prompt; the base's times are pooled over the pairs.
        scenario: the use that prompt and answer are taken from, in the place of those of ``latency``; each folder is
            then run through it as it is, too.
        adapters: names of LoRA adapters; each of the ``folders`` is measured with each of them active, too.

    Returns:
        Folder -> latency and memory, the reference first; its own speedups are exactly 1. A folder with an active
        adapter is ``FOLDER + NAME``.

    Raises:
        UsageError: for a folder without a model or such an adapter, numbers that make no measurement, a scenario
            that a folder has no room for, or too few prompts for the guesses of one; before any model loads.
        ModelProcessFailed: when a model does not load or run, naming its folder.
    """
    base, others = in_order(folders, reference)
    adapted = [
        (f"{folder} + {name}", folder, named_adapter(folder, name))
        for folder in dict.fromkeys(folders)
        for name in dict.fromkeys(adapters)
    ]
    prompts: list[Prompt] = []
    if scenario is not None:
        for folder in (base, *others):
            check_room(folder, scenario.context)
        prompts = read_prompts(scenario, base) if scenario.prompts else []
        timed = timed_prompt(prompts)
        lengths = len(timed) or scenario.prompt_tokens
        latency = replace(latency, prompt_tokens=lengths, new_tokens=scenario.new_tokens, prompt=timed)
    _check_numbers(latency)
    prompt, new = latency.prompt_tokens, latency.new_tokens
    for folder in (base, *others):
        check_context(folder, prompt + new, f"a prompt of {prompt} and {new} new tokens")
    if prompts:
        _check_guesses([base, *others], len(prompts), new)
    pooled = replace(latency, baseline_times=BaselineTimes())
    timing = AnswerLatency(pooled, tuple(prompt.ids for prompt in thin_prompts(prompts))) if prompts else pooled
    used = [] if scenario is None else [Deployed(scenario, prompts[-1].ids if prompts else ())]

    def measure(folder: Path, process: ModelProcess, beside: ModelProcess) -> list[Measurement]:
        measurements = Memory(prompt).evaluate(process, beside)
        for evaluator in used:
            measurements += evaluator.evaluate(process, beside)
        measurements += timing.evaluate(process, beside)
        given = {"prompts_given": len(prompts)} if prompts else {}
        return stamped(measurements, process, pruned_head=is_pruned(folder), **given)

    options = comparable_options([base, *others, *folders])
    if adapted and any(each["loop"] != "genai" for each in options.values()):
        raise UsageError(
            "--adapter: adapters run in ONNX Runtime GenAI, which can not run the provider of these folders"
        )
    with ModelProcess.open(base, **options[base]) as resident:
        results = {str(base): measure(base, resident, resident)}
        for folder in others:
            with ModelProcess.open(folder, **options[folder]) as process:
                results[str(folder)] = measure(folder, process, resident)
        for label, folder, file in adapted:
            with ModelProcess.open(folder, **options[folder], adapter=file) as process:
                results[label] = measure(folder, process, resident)
    return results


def _check_guesses(folders: Sequence[Path], prompts: int, new_tokens: int) -> None:
    """Refuse prompts and answers that can't tell the gain of a folder that guesses."""
    guessing = next((each for each in folders if Guessing.of(read_genai_config(each)) != NONE), None)
    wrong = [
        *([f"{prompts} prompts; at least {LEAST_ANSWERS}"] if prompts < LEAST_ANSWERS else []),
        *([f"answers of {new_tokens} tokens; at least {MIN_TOKENS}"] if new_tokens < MIN_TOKENS else []),
    ]
    if guessing is not None and wrong:
        raise UsageError(
            f"{guessing} guesses tokens, which is timed on whole answers: {', and '.join(wrong)}. Give more in the "
            "scenario's prompts and new_tokens, or name a scenario without prompts to time steps without guesses."
        )


def _check_numbers(latency: PairedDecoderLatency) -> None:
    prompt, new, rounds = latency.prompt_tokens, latency.new_tokens, latency.max_rounds
    half_width, seconds = latency.half_width, latency.max_seconds
    wrong = [
        *([f"the prompt has {prompt} tokens; at least 1"] if prompt < 1 else []),
        *([f"{new} new tokens; at least 2, since decode is timed after the first"] if new < 2 else []),
        *([f"half-width {half_width:g}; above 0 and below 1, such as 0.02"] if not 0 < half_width < 1 else []),
        *([f"{seconds:g} seconds; above 0"] if not seconds > 0 else []),
        *([f"{rounds} rounds; at least {MIN_ROUNDS}"] if rounds is not None and rounds < MIN_ROUNDS else []),
    ]
    if wrong:
        raise UsageError(f"This can't be measured: {'; '.join(wrong)}.")
