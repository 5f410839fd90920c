"""Metric: one row for each quantity that olivine measures; names, units and words for people come from here alone.

``METRICS`` is in the order in which tables show them: latency, quality, a user's own task, size, the process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

Direction = Literal["minimize", "maximize"]
Family = Literal["latency", "quality", "task", "size", "process"]
ModelKind = Literal["language", "graph"]

_BOTH: tuple[ModelKind, ...] = ("language", "graph")
_LANGUAGE: tuple[ModelKind, ...] = ("language",)
_GRAPH: tuple[ModelKind, ...] = ("graph",)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric.

    Attributes:
        name: as in configs, records and front.csv; carries the unit where it has one.
        unit: of its values.
        direction: the better one.
        family: ``latency`` of paired runs, ``quality`` against the base's outputs, ``task`` on a user's labelled rows,
            ``size`` of the files, ``process`` for what one process reads once.
        doc: one line for the JSON schema and the documentation.
        title: what a person calls it, where its name is not shown.
        short: column heading, where the title is too wide.
        kinds: the kinds of model that it is measured of.
        low: least value that it can take.
        high: greatest value that it can take.
        format: ``factor`` prints 2.41x, ``percent`` prints 97.1 %, ``unit`` prints the number with its unit.
        ratio_of: the metric of which it is the ratio between candidate and base.
        relative: compares a candidate with the base, so that the base itself has 1 or 0.
        shown: ``headline`` among the few numbers that sum up a candidate, ``column`` in the table of the front too,
            ``detail`` elsewhere.
        by_difference: two of its values are compared by their difference, since both are near 0 or 1.
        verbs: what a model does whose value is higher by a factor ``{}``, and one whose value is lower.
    """

    name: str
    unit: str = "1"
    direction: Direction = "minimize"
    family: Family
    doc: str
    title: str
    short: str = ""
    kinds: tuple[ModelKind, ...] = _LANGUAGE
    low: float = 0.0
    high: float = math.inf
    format: Literal["factor", "percent", "unit"] = "unit"
    ratio_of: str = ""
    relative: bool = False
    shown: Literal["headline", "column", "detail"] = "detail"
    by_difference: bool = False
    verbs: tuple[str, str] = ("is {} higher", "is {} lower")

    @property
    def heading(self) -> str:
        """Its column heading."""
        return self.short or self.title


def _time(name: str, title: str, doc: str, what: str, kinds: tuple[ModelKind, ...] = _LANGUAGE) -> Metric:
    return Metric(
        name=name,
        unit="ms",
        family="latency",
        doc=doc,
        title=title,
        kinds=kinds,
        verbs=(f"takes {{}} longer{what}", f"takes {{}} less time{what}"),
    )


def _rate(name: str, title: str, doc: str, verb: str) -> Metric:
    return Metric(
        name=name, unit="tok/s", direction="maximize", family="latency", doc=doc, title=title, verbs=_faster(verb)
    )


def _faster(verb: str, what: str = "") -> tuple[str, str]:
    return f"{verb} {{}} faster{what}", f"{verb} {{}} slower{what}"


def _memory(name: str, title: str, doc: str, kinds: tuple[ModelKind, ...] = _LANGUAGE, short: str = "") -> Metric:
    return Metric(
        name=name,
        unit="bytes",
        family="process",
        doc=doc,
        title=title,
        short=short,
        kinds=kinds,
        verbs=(f"needs {{}} more {short or title}", f"needs {{}} less {short or title}"),
    )


def _speedup(of: str, title: str, short: str, verbs: tuple[str, str], kind: ModelKind = "language") -> Metric:
    return Metric(
        name=of.replace("_ms", "_speedup"),
        unit="ratio",
        direction="maximize",
        family="latency",
        doc=f"{of} of the base / of the candidate",
        title=title,
        short=short,
        kinds=(kind,),
        format="factor",
        ratio_of=of,
        relative=True,
        shown="detail" if of == "e2e_ms" else "headline",
        verbs=verbs,
    )


_ROWS = (
    _time("tpot_ms", "time per token", "time per output token: decode", " per token"),
    _time("ttft_ms", "time to first token", "time to first token: prefill of the prompt", " to the first token"),
    _time("e2e_ms", "end to end", "prompt in, last token out", " end to end"),
    _rate("decode_tok_s", "decode rate", "output tokens a second", "decodes"),
    _rate("prefill_tok_s", "prefill rate", "prompt tokens a second", "prefills"),
    _speedup("tpot_ms", "decode speedup", "decode", _faster("decodes")),
    _speedup("ttft_ms", "prefill speedup", "prefill", _faster("prefills")),
    _speedup("e2e_ms", "end-to-end speedup", "end to end", _faster("is", " end to end")),
    replace(
        _rate("tokens_per_step", "tokens a step", "tokens of an answer / runs of the model; 1 without guesses", "goes"),
        unit="tokens",
        low=1.0,
    ),
    _time("latency_ms", "latency", "time of a run of a plain graph, geometric mean over the named shapes", "", _GRAPH),
    _speedup("latency_ms", "speedup", "", _faster("is"), "graph"),
    Metric(
        name="cosine_distance",
        family="quality",
        doc="1 - cosine of a plain graph's output and the base's",
        title="cosine distance",
        short="1 - cosine",
        kinds=_GRAPH,
        high=2.0,
        relative=True,
        shown="headline",
    ),
    Metric(
        name="task_score",
        unit="ratio",
        direction="maximize",
        family="task",
        doc="metric of evaluation.task over labelled rows, of a plain graph",
        title="task score",
        kinds=_GRAPH,
        low=-1.0,
        high=1.0,
        shown="headline",
        by_difference=True,
    ),
    Metric(
        name="task_drop",
        unit="ratio",
        family="task",
        doc="task_score of the base - of the candidate, same rows",
        title="task drop",
        kinds=_GRAPH,
        low=-2.0,
        high=2.0,
        relative=True,
        shown="headline",
        by_difference=True,
    ),
    Metric(
        name="perplexity",
        family="quality",
        doc="exp of the mean negative log-likelihood per token",
        title="perplexity",
        low=1.0,
    ),
    Metric(
        name="perplexity_ratio",
        unit="ratio",
        family="quality",
        doc="perplexity of the candidate / of the base, same tokens",
        title="perplexity ratio",
        short="ppl ratio",
        ratio_of="perplexity",
        relative=True,
        shown="headline",
        by_difference=True,
    ),
    Metric(
        name="kl_divergence",
        unit="nats",
        family="quality",
        doc="KL of the base's next-token distribution to the candidate's",
        title="KL divergence",
        short="KL",
        kinds=_BOTH,
        relative=True,
        shown="column",
        by_difference=True,
    ),
    Metric(
        name="top1_agreement",
        unit="ratio",
        direction="maximize",
        family="quality",
        doc="share of tokens at which both predict the same next token",
        title="top-1 agreement",
        short="top-1",
        kinds=_BOTH,
        high=1.0,
        format="percent",
        relative=True,
        shown="column",
        by_difference=True,
    ),
    Metric(
        name="bits_per_byte",
        unit="bits/byte",
        family="quality",
        doc="negative log-likelihood in bits per byte of text",
        title="bits per byte",
        by_difference=True,
    ),
    Metric(
        name="model_bytes",
        unit="bytes",
        family="size",
        doc="size of the graph and its weights",
        title="model size",
        short="size",
        kinds=_BOTH,
        shown="headline",
        verbs=("is {} larger", "is {} smaller"),
    ),
    _memory(
        "peak_rss_bytes", "peak memory", "peak resident memory of the process that runs the model", _BOTH, "memory"
    ),
    _memory("gpu_memory_bytes", "GPU memory", "what the GPU holds for model and cache; measured on CUDA only"),
    _memory("context_bytes", "context memory", "keys and values of the scenario's whole context"),
    replace(
        _memory("deployed_rss_bytes", "deployed memory", "peak of a fresh process in the scenario"), shown="column"
    ),
    Metric(
        name="cpu_ms_per_token",
        unit="ms",
        family="process",
        doc="CPU time of the scenario / tokens of its answers; all threads and prompts count",
        title="CPU time per token",
        verbs=("takes {} more CPU time", "takes {} less CPU time"),
    ),
    replace(
        _time("load_ms", "load time", "time to load the model", "", _BOTH),
        family="process",
        verbs=("loads {} slower", "loads {} faster"),
    ),
)

#: Name -> metric.
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}

#: Metrics that sum up a candidate: tiles of the report, the last lines of a command.
HEADLINES = tuple(name for name, metric in METRICS.items() if metric.shown == "headline")
#: Columns of the table of the front.
COLUMNS = tuple(name for name, metric in METRICS.items() if metric.shown != "detail")
#: Metrics of a user's own labelled rows, where a study names some.
TASK_METRICS = tuple(name for name, metric in METRICS.items() if metric.family == "task")
#: Metrics of a model in a scenario, where a study or a command names one; of whole answers, where its prompts are real.
SCENARIO_METRICS = ("context_bytes", "deployed_rss_bytes", "cpu_ms_per_token")
ANSWER_METRICS = ("tokens_per_step",)
#: Time -> its speedup, the form in which people compare times.
SPEEDUPS = {metric.ratio_of: name for name, metric in METRICS.items() if metric.format == "factor"}

#: Metrics that depend on the kind of the text, and are measured on each kind that a study names.
BY_TEXT = ("perplexity_ratio", "kl_divergence")


def on_text(metric: str, text: str) -> str:
    """The name of a metric on a text of another kind than the study's own, such as ``kl_divergence.encyclopedia``."""
    return f"{metric}.{text}"


def split_text(name: str) -> tuple[str, str]:
    """Metric and text of a name that :func:`on_text` made; the text is empty for every other name."""
    metric, _, text = name.partition(".")
    return (metric, text) if metric in BY_TEXT else (name, "")


def metrics_of(kind: ModelKind) -> tuple[str, ...]:
    """Names of the metrics that are measured of one kind of model."""
    return tuple(name for name, metric in METRICS.items() if kind in metric.kinds)


def directed(metric: str, value: float) -> float:
    """``value`` as a number to be minimized."""
    return value if METRICS[metric].direction == "minimize" else -value
