"""The model card of an exported folder: its manifest as a page that a person, or a hub, reads."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from olivine.evaluators.metric import BY_TEXT, COLUMNS, METRICS, split_text
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.catalog import read_recipe
from olivine.passes.parity.proof import proof_sentence
from olivine.passes.providers import PROVIDERS
from olivine.passes.quantize.kv_cache import QuantizeCache
from olivine.passes.transforms.chunked_prefill import ChunkedPrefill
from olivine.passes.transforms.context_length import ContextLength
from olivine.passes.transforms.prune_head import PruneHead
from olivine.passes.transforms.speculate import Speculate
from olivine.search.environment import ABSENT
from olivine.search.export.adapters import adapter_notes, adapters_text
from olivine.search.report.formatting import guesses_text, scalar_text, title, value_text

#: Metrics in the order of the card: those that compare with the base come first.
SHOWN = (*COLUMNS, *(name for name in METRICS if name not in COLUMNS))
#: Packages that a model needs where its provider has no environment of its own; another flavour may stand for one.
_RUNTIME = ("onnxruntime", "onnxruntime-genai", "numpy")


def runtime_pins(provider: str, versions: Mapping[str, str]) -> tuple[str, ...]:
    """Pinned packages that run a model by ONNX Runtime GenAI; empty where GenAI can't run it.

    Args:
        provider: the execution provider that the model is for.
        versions: package -> version that it was exported with.
    """
    known = PROVIDERS[provider]
    if not known.genai:
        return ()
    return known.environment or tuple(f"{name}=={versions[name]}" for name in _RUNTIME if versions[name] != ABSENT)


def card(about: Mapping[str, Any], picture: str) -> str:
    """The card as Markdown, with the front matter that model hubs read.

    Args:
        about: what the manifest says beside the files: source, recipe, measurements, versions, hardware.
        picture: name of the file with the front; empty where there is none.
    """
    model = about["model"]
    sections = [
        _front_matter(model),
        f"# {_plain(model['name'])} for ONNX Runtime GenAI\n\n{_origin(about)}",
        *([f"![The front: each trial of the study, with error bars]({picture})"] if picture else []),
        f"## Measured\n\n{_measured(about)}",
        f"## Recipe\n\n{_recipe(about)}",
        f"## Run\n\n{_run(about)}",
        adapters_text(about, [_plain(note) for note in adapter_notes(about)]),
        f"## Limits\n\n{_limits(about)}",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(model: Mapping[str, Any]) -> str:
    lines = ["library_name: onnxruntime-genai"]
    if model.get("license"):
        lines.append(f"license: {model['license']}")
    if model["kind"] == "hub":
        lines.append(f"base_model: {model['name']}")
    return "\n".join(["---", *lines, "---"])


def _origin(about: Mapping[str, Any]) -> str:
    model, study = about["model"], about.get("study")
    revision = f", commit {_plain(model['revision'])}" if model["revision"] else ""
    sentences = [
        f"Made of {_plain(model['source'])} ({_plain(model['architecture'])}{revision}) "
        f"by olivine {about['versions']['olivine']}.",
        f"License of the base model: {model['license']}, as its own card states it."
        if model.get("license")
        else "License of the base model: not stated by the files that this was made of; its own terms hold.",
    ]
    sentences += [f"{_plain(note[:1].upper() + note[1:])}." for note in base_notes(about)]
    if study:
        sentences.append(f"It is trial {study['trial']} of the study {_plain(study['name'])}.")
    if about.get("selection"):
        sentences.append(f"Why this one: {_plain(about['selection']['reason'])}")
    return " ".join(sentences)


def base_notes(about: Mapping[str, Any]) -> list[str]:
    """The sentences of a manifest on the base: what was done to it, how far it agrees, and what stayed float."""
    proof = proof_sentence(about.get("base_agreement"))
    return [*about["model"].get("notes", ()), *([proof] if proof else []), *about.get("notes", ())]


def _measured(about: Mapping[str, Any]) -> str:
    measurements = about["measurements"]
    if not measurements:
        return "Nothing: it was built without a search. `olivine bench` and `olivine eval` measure it."
    rows = ["| | value | 95 % interval |", "|---|---|---|"]
    shown = [name for metric in SHOWN for name in measurements if split_text(name)[0] == metric]
    for name in [*shown, *sorted(name for name in measurements if name not in shown)]:
        value = value_text(name, float(measurements[name]["value"]))
        rows.append(f"| {_plain(title(name))} | {value} | {_ends(name, measurements[name])} |")
    return "\n".join(rows) + f"\n\n{_protocol(about)}"


def _ends(name: str, entry: Mapping[str, Any]) -> str:
    low, high = float(entry["low"]), float(entry["high"])
    return "" if low == high else f"{value_text(name, low)} to {value_text(name, high)}"


def _protocol(about: Mapping[str, Any]) -> str:
    """Against what, on what, with which text."""
    hardware = about["hardware"]
    sentences = [
        "Speedups and ratios are to the float base with the same number of threads.",
        f"Machine: {_plain(hardware['cpu'])}, {hardware['cores']} cores, "
        f"{value_text('model_bytes', hardware['memory_bytes'])} of memory, {_plain(hardware['system'])}.",
    ]
    timed = about["measurements"].get("tpot_ms", {}).get("protocol", {})
    if "prompt_tokens" in timed:
        sentences.append(f"Times: {timed['prompt_tokens']} prompt and {timed['new_tokens']} new tokens, batch size 1.")
    used = about["measurements"].get("context_bytes", {}).get("protocol", {})
    if "scenario" in used:
        scenario = Scenario(**used["scenario"])
        sentences.append(
            f"Scenario {_plain(scenario.name)}: {scenario.words()}, in a context of {scenario.context}; deployed "
            "memory is the peak of a fresh process of ONNX Runtime GenAI that runs this folder so."
        )
    scored = about["measurements"].get("perplexity", {}).get("protocol", {})
    if "tokens" in scored:
        part = f", part '{scored['split']}'" if scored.get("split") else ""
        sentences.append(
            f"Quality: {scored['tokens']} tokens of {_plain(scored['text'])}{part}, in windows of "
            f"{scored['window_tokens']}."
        )
    for name, entry in about["measurements"].items():
        metric, text = split_text(name)
        if text and metric == BY_TEXT[0]:
            scored = entry["protocol"]
            sentences.append(
                f"On {_plain(text)}: {scored['tokens']} tokens of {_plain(scored['text'])}: nothing learned from it."
            )
    return " ".join(sentences)


def _recipe(about: Mapping[str, Any]) -> str:
    rows = ["| pass | parameters |", "|---|---|"]
    for step in about["recipe"]:
        params = ", ".join(f"{_plain(k)} {_plain(scalar_text(v))}" for k, v in step["params"].items() if v != "")
        rows.append(f"| {_plain(step['name'])} | {params} |")
    return "\n".join(rows) + f"\n\nThe same model again:\n\n{_code(about['rebuild'])}"


def _run(about: Mapping[str, Any]) -> str:
    provider = read_recipe(about["recipe"]).provider
    pins = runtime_pins(provider, about["versions"])
    if not pins:
        return (
            f"ONNX Runtime GenAI has no build for the provider {provider}: its graph runs in a plain session of ONNX "
            "Runtime, as `olivine verify` and `olivine bench` do it."
        )
    install = "pip install " + " ".join(f"'{pin}'" if "[" in pin else pin for pin in pins)
    longest = min(_context(about) or 200, 200)
    script = (
        "import onnxruntime_genai as genai\n\n"
        'model = genai.Model(".")  # this folder\n'
        "tokenizer = genai.Tokenizer(model)\n"
        "params = genai.GeneratorParams(model)\n"
        f"params.set_search_options(max_length={longest})\n"
        "generator = genai.Generator(model, params)\n"
        'generator.append_tokens(tokenizer.encode("The river"))\n'
        "while not generator.is_done():\n"
        "    generator.generate_next_token()\n"
        "print(tokenizer.decode(generator.get_sequence(0)))"
    )
    return (
        f"{_code(install)}\n\n```python\n{script}\n```\n\nWith olivine: `olivine chat DIR` talks to it, "
        "`olivine serve DIR` answers OpenAI's chat completions, `olivine verify DIR` checks that these files are "
        "what was exported."
    )


def _limits(about: Mapping[str, Any]) -> str:
    sentences = [
        "The numbers are of the machine named above; another one has other kernels.",
        "A perplexity near the base's says nothing of a task, of another language or of safety: try yours.",
        "What the base model must not be used for, this one must not either.",
    ]
    if threads := read_recipe(about["recipe"]).threads:
        sentences.append(
            f"genai_config.json asks for {threads} threads, which is what was measured: "
            "`session_options.intra_op_num_threads` is where another machine says otherwise."
        )
    if context := _context(about):
        sentences.append(_room(context, about["measurements"].get("context_bytes")))
    if any(step["name"] == PruneHead.name for step in about["recipe"]):
        sentences.append(
            "It computes the logits of a prompt's last token only. Prompts of different lengths in one batch, "
            "speculative decoding and scoring of a text need all of them: `--set prune_head=false` in the command "
            "above gives them."
        )
    if sizes := [step["params"]["chunk_size"] for step in about["recipe"] if step["name"] == ChunkedPrefill.name]:
        sentences.append(
            f"Prompts of more than {sizes[0]} tokens are run in pieces of that size, and only the last piece's logits "
            "are kept: `search.chunk_size` in genai_config.json is 0 where a text is to be scored."
        )
    if bits := [step["params"]["bits"] for step in about["recipe"] if step["name"] == QuantizeCache.name]:
        sentences.append(
            f"Its key-value cache holds int{bits[0]}, and it was scored so: texts longer than the scored windows "
            "may lose more."
        )
    if any(step["name"] == Speculate.name for step in about["recipe"]):
        guesses = about["measurements"].get("tpot_ms", {}).get("protocol", {}).get("guesses")
        sentences.append(
            "It guesses tokens from n-grams of the text before (`speculative` in genai_config.json): answers that "
            f"repeat their prompt come faster, others slower. {_of_guesses(guesses)}"
        )
    if learned := about.get("calibration"):
        texts = ", ".join(map(_plain, (learned["text"], *learned.get("texts", ()))))
        own = " and from text that the base model wrote" if learned.get("own") else ""
        learners = {p.name for p in read_recipe(about["recipe"]).passes() if p.needs_calibration}
        subject = "cache" if learners == {QuantizeCache.name} else "weights"
        sentences.append(f"Its {subject} learned from {texts}{own}: text of that kind may flatter it.")
    sentences += [_plain(warning) for warning in about.get("selection", {}).get("warnings", ())]
    return "\n".join(f"* {line}" for line in sentences)


def _of_guesses(guesses: Mapping[str, Any] | None) -> str:
    """The sentence on what guesses gained where they were timed."""
    if guesses is None:
        return "The numbers above are without it."
    return (
        f"{guesses_text(guesses)}, which the times above hold a token and end to end. Memory, CPU time and quality are "
        "without guesses."
    )


def _context(about: Mapping[str, Any]) -> int:
    """Tokens of the context that the folder makes room for; 0 for all that the model takes."""
    steps = [step["params"] for step in about["recipe"] if step["name"] == ContextLength.name]
    return int(steps[0]["tokens"]) if steps else 0


def _room(context: int, cache: Mapping[str, Any] | None) -> str:
    """The sentence on the memory of a context, and on how to change it."""
    takes, each = "", ""
    if cache is not None and cache["protocol"]["scenario"]["context"] == context:
        takes = f" ({value_text('context_bytes', cache['value'])})"
        each = f", at {value_text('context_bytes', cache['value'] / context)} a token"
    return (
        f"genai_config.json makes room for {context} tokens of prompt and answer: a conversation ends there, and a "
        f"cache that is shared by past and present takes all its memory{takes} at the first prompt. "
        f"`search.max_length` is where another context is named, up to what the model takes{each}."
    )


def _code(text: str) -> str:
    return f"    {' '.join(str(text).split())}"


def _plain(text: object) -> str:
    """Words from elsewhere in one line, with nothing in them that Markdown or HTML would take for its own."""
    line = escape(" ".join(str(text).split()), quote=False)
    for mark in ("\\", "`", "|", "[", "]", "*"):
        line = line.replace(mark, f"\\{mark}")
    return line
