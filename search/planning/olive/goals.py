"""Metrics and text of a workflow of Olive, as objectives, selection and ``evaluation.text`` of a study."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from olivine.evaluators.metric import SPEEDUPS
from olivine.search.planning.olive.workflow import Notes, Workflow, mapping, sequence
from olivine.search.planning.presets import WIKITEXT

#: Limit on perplexity where a workflow says nothing about quality.
USUAL_LOSS = "perplexity_ratio <= 1.05"
_WIKITEXT = "wikitext"


def goals_of(workflow: Workflow, searching: bool, notes: Notes) -> dict[str, Any]:
    """Objectives and selection; a study without a search has nothing to select from."""
    ranked: list[tuple[float, str]] = []
    where: list[str] = []
    for index, metric in enumerate(workflow.metrics):
        place = f"evaluators.{metric.get('name', index)}"
        for priority, ours, goal in _goals(metric, place, notes):
            ranked.append((priority, ours))
            where += _condition(ours, goal, f"{place}.goal", notes)
    if _by_lm_eval(workflow):
        tasks = ", ".join(map(str, sequence(workflow.evaluator.get("tasks")))) or "its tasks"
        notes.lose("evaluators", f"{tasks} of lm-eval as a goal: perplexity_ratio stands in, which less text decides")
        ranked.append((1.0, "perplexity_ratio"))
    objectives = list(dict.fromkeys(name for _, name in sorted(ranked, key=lambda pair: pair[0])))[:3]
    if not any(name == "perplexity_ratio" for name in objectives):
        objectives = [*objectives[:2], "perplexity_ratio"]
        notes.lose("evaluators", "it measures no quality of text, and a study always does: perplexity_ratio is added")
    if len(objectives) < 2:
        objectives = ["tpot_ms", *objectives]
        notes.lose("evaluators", "it measures no speed, and a study weighs it against quality: tpot_ms is added")
    select: dict[str, Any] = {"by": "objective", "metric": objectives[0]}
    if searching and not any(text.startswith("perplexity_ratio") for text in where):
        where.append(USUAL_LOSS)
        notes.lose("evaluators", f"no goal that perplexity could keep: '{USUAL_LOSS}' stands in select.where")
    if objectives[0] == "perplexity_ratio":
        select["metric"] = objectives[1]
    return {"objectives": objectives, "select": select | ({"where": where} if where else {})}


def tasks_of(workflow: Workflow, notes: Notes) -> dict[str, Any]:
    """``evaluation.lm_eval`` of the tasks that a workflow measures; empty where it has none."""
    names = [str(name) for name in sequence(workflow.evaluator.get("tasks"))]
    if not _by_lm_eval(workflow) or not names:
        return {}
    limit = workflow.evaluator.get("limit")
    questions = {"limit": limit} if isinstance(limit, int) and not isinstance(limit, bool) and limit > 0 else {}
    notes.keep("evaluators", f"evaluation.lm_eval: {', '.join(names)}, on the base and the confirmed front")
    return {"lm_eval": {"tasks": names} | questions}


def _by_lm_eval(workflow: Workflow) -> bool:
    return "lmevaluator" in str(workflow.evaluator.get("type", "")).lower().replace("_", "")


def _goals(metric: Mapping[str, Any], place: str, notes: Notes) -> Iterator[tuple[float, str, Mapping[str, Any]]]:
    """(priority, our metric, goal) of each sub-type that has a counterpart."""
    kind, name = str(metric.get("type", "")).lower(), str(metric.get("name", "")).lower()
    alone = {"name": metric.get("sub_type"), "goal": metric.get("goal"), "priority": 1}
    subs = [mapping(sub) for sub in sequence(metric.get("sub_types") or [alone])]
    for sub in subs:
        word = str(sub.get("name") or "").lower()
        priority = sub.get("priority", sub.get("priority_rank", metric.get("priority_rank", 99)))
        rank = float(priority) if isinstance(priority, int | float) and priority > 0 else 99.0
        ours = _ours(kind, name, word)
        if ours is None:
            notes.lose(place, f"{kind} {word}: a task of its own data; perplexity_ratio and divergence stand in")
            ours = "perplexity_ratio"
        else:
            notes.keep(place, f"{kind} {word or 'value'}: {ours}")
            if kind == "latency" and word not in ("", "avg", "p50"):
                notes.lose(place, f"{word}: a study reports a centre with its interval, no percentiles")
        if sub.get("priority") is None and sub.get("goal") is None and len(subs) > 1:
            continue  # reported by Olive, but no objective
        yield rank, ours, mapping(sub.get("goal"))
    for key in ("user_config", "metric_config"):
        if mapping(metric.get(key)):
            notes.lose(
                f"{place}.{key}", "measuring has one protocol here (paired turns, equal threads); no script runs"
            )


def _ours(kind: str, name: str, word: str) -> str | None:
    if kind == "latency":
        if any(mark in name for mark in ("prompt", "prefill", "first", "ttft")):
            return "ttft_ms"
        return "tpot_ms" if any(mark in name for mark in ("token", "decode", "tpot")) else "e2e_ms"
    if kind == "throughput":
        return "prefill_tok_s" if "prompt" in name or "prefill" in name else "decode_tok_s"
    if kind in ("size_on_disk", "sizeondisk"):
        return "model_bytes"
    return "perplexity_ratio" if "perplexity" in (word, name) or "perplexity" in kind else None


def _condition(ours: str, goal: Mapping[str, Any], place: str, notes: Notes) -> list[str]:
    """A goal as conditions on the confirmed values; none where it has no counterpart."""
    kind, value = str(goal.get("type", "")), goal.get("value")
    if not goal:
        return []
    text, share = "", float(value) / 100 if isinstance(value, int | float) else 0.0
    if not isinstance(value, int | float) or isinstance(value, bool):
        notes.lose(place, f"{kind} {value}: no number")
        return []
    if kind == "percent-min-improvement" and ours in SPEEDUPS and 0 <= share < 1:
        text = f"{SPEEDUPS[ours]} >= {1 / (1 - share):.4g}"
    elif kind == "percent-max-degradation" and ours in SPEEDUPS and share >= 0:
        text = f"{SPEEDUPS[ours]} >= {1 / (1 + share):.4g}"
    elif kind == "percent-min-improvement" and ours in ("decode_tok_s", "prefill_tok_s") and share >= 0:
        text = f"{'tpot' if ours == 'decode_tok_s' else 'ttft'}_speedup >= {1 + share:.4g}"
    elif kind == "percent-max-degradation" and ours == "perplexity_ratio" and share > 0:
        text = f"perplexity_ratio <= {1 + share:.4g}"
    elif kind == "threshold" and (ours in SPEEDUPS or ours == "model_bytes") and value > 0:
        text = f"{ours} <= {value:g}"
    if not text:
        notes.lose(place, f"{kind} {value:g} of {ours}: write a condition of your own into select.where")
        return []
    notes.keep(place, f"select.where: {text}")
    return [text]


def text_of_workflow(workflow: Workflow, notes: Notes) -> dict[str, Any]:
    """``evaluation.text``: the first data config that holds plain text; the usual one where there is none."""
    for name, about in workflow.data.items():
        if (text := _text(name, about, notes)) is not None:
            notes.keep(f"data_configs.{name}", f"evaluation.text: {text.get('dataset') or text['file']}")
            for other in workflow.data:
                if other != name:
                    notes.lose(f"data_configs.{other}", "a study has one text, cut into three parts that never meet")
            return text
    notes.lose("data_configs", "no plain text to score on: WikiText-2 stands in evaluation.text")
    return dict(WIKITEXT)


def _text(name: str, about: Mapping[str, Any], notes: Notes) -> dict[str, Any] | None:
    place = f"data_configs.{name}"
    kind = str(about.get("type", "")).lower()
    load = {**about, **_params(about.get("load_dataset_config"))}
    before = {**about, **_params(about.get("pre_process_data_config"))}
    template = str(before.get("text_template") or before.get("corpus") or "")
    columns = [str(column) for column in sequence(before.get("text_cols") or before.get("text_col") or "text")]
    if template.startswith("{") and template.endswith("}") and template.count("{") == 1:
        columns = [template[1:-1]]
    elif template or len(columns) > 1:
        notes.lose(place, "several columns, or a template around them: a study scores one column of text")
        return None
    dataset, files = str(load.get("data_name") or ""), sequence(load.get("data_files"))
    if "dummy" in kind or "transformerstoken" in kind:
        notes.lose(place, "made-up tokens: latency is timed on random tokens anyway, and quality needs real text")
        return None
    if files and dataset in ("", "text", "json", "parquet"):
        return {"file": str(files[0]), "column": columns[0]}
    if not dataset or before.get("input_cols") or before.get("label_col") or load.get("label_cols"):
        notes.lose(place, "no text of a language model: columns with labels, or a script of its own")
        return None
    text: dict[str, Any] = {"dataset": WIKITEXT["dataset"] if dataset == _WIKITEXT else dataset}
    if (subset := load.get("subset") or load.get("name_of_subset")) is not None:
        text["config"] = str(subset)
    text["split"] = str(load.get("split") or "train")
    text["column"] = columns[0]
    for key in (
        "max_samples",
        "source_max_len",
        "max_seq_len",
        "stride",
        "strategy",
        "col_filters",
        "add_special_tokens",
    ):
        if before.get(key) is not None or load.get(key) is not None:
            notes.lose(f"{place}.{key}", "windows are cut by evaluation.windows, window_tokens and calibration")
    return text


def _params(section: object) -> dict[str, Any]:
    settings = mapping(section)
    return {**settings, **mapping(settings.get("params"))}
