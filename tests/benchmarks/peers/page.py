"""The page of the benchmark: targets, a table of all rows, and how it was measured, for each model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap

from peers.targets import OPENVINO_INT8, Q4_K_M, Q5_K_M, Q6_K, Q8_0, TARGETS, best, factor_text
from peers.texts import ENCYCLOPEDIA, NEWS, WINDOW_TOKENS, WINDOWS

from olivine.evaluators.peers import timing
from olivine.evaluators.peers.measured import Measured
from olivine.evaluators.peers.rows import ENGINES
from olivine.evaluators.peers.timing import PROMPT_TOKENS
from olivine.evaluators.stats import Interval
from olivine.search.environment import describe_environment

PACKAGES = ("onnxruntime", "onnxruntime-genai")
LINE = 118
HOW = """
`make bench-peers` on {cpu}, {cores} cores, {threads} threads for each engine; {versions}; the others in the versions of
`tests/benchmarks/peers/requirements.txt`, llama.cpp compiled for this processor out of that of `llama.txt`, but without
AMX, in which that version faults on virtual machines. All engines have the same float32 checkpoint (of the demo model
the rotated one, as olivine's base has it), the same tokens and the same prompts.{second}

KL divergence, in nats a token, and perplexity ratio are against the float checkpoint, at all positions of
windows of {length} tokens, {windows}. Formats that learn from text learn from other news articles: olivine's
as `olivine build` does by itself, llama.cpp's by an importance matrix and OpenVINO's data-aware ones from the same 32
pieces of 512 tokens. Each engine computes in the precision that it chooses by itself.

MB is all that is deployed: the GGUF file, or the whole folder with its tokenizer. Speed is that of a prompt of {prompt}
tokens and {new} new ones, greedy: the median over rounds in which each row has its turn, in random order, in a fresh
process that runs in real time, so that no other program takes a core. Of the prompts of a turn {warm} warms up and
{counted} count; one during which a thread waited for a core does not. Ratios are of the rounds that have both rows,
with 95 % intervals; rates are those of this machine on that day, and only ratios can be compared with other pages.
"""
#: The second model, where it is on the page.
SECOND = "Qwen3-31M"
ABOUT_SECOND = f""" {SECOND} is what `make bench-peers-model` trains, deterministically, on news and on encyclopedia
articles other than those that are scored: four layers of width 768, 12 attention heads over 4 of keys and values, a
vocabulary of 8192."""


def page(results: Mapping[str, Sequence[Measured]], threads: int, picture: str, targeted: Collection[str] = ()) -> str:
    """Markdown: how it was measured, and a section a model.

    Args:
        results: name of a model -> all rows.
        threads: of every engine.
        picture: name of the file with the first model's picture.
        targeted: names of the models that the targets are set for.
    """
    about = describe_environment()
    versions = ", ".join(f"{name} {about['versions'][name]}" for name in PACKAGES)
    windows = " and ".join(f"{count} of {kind}" for kind, count in WINDOWS.items())
    measured = {"windows": windows, "length": WINDOW_TOKENS, "prompt": PROMPT_TOKENS, "new": timing.NEW_TOKENS}
    measured |= {"warm": timing.WARM, "counted": timing.COUNTED, "threads": threads, "versions": versions}
    measured |= {"second": ABOUT_SECOND if SECOND in results else ""}
    how = HOW.format(cpu=about["cpu"], cores=about["cores"], **measured)
    lines = ["# Beside llama.cpp and OpenVINO", ""]
    for paragraph in how.strip().split("\n\n"):
        lines += [*wrap(paragraph, LINE, break_on_hyphens=False), ""]
    for place, (name, rows) in enumerate(results.items()):
        lines += [f"## {name}", ""]
        if place == 0:
            lines += [f"![Decode, prefill and bytes against KL divergence, a line for each engine]({picture})", ""]
        if name in targeted:
            lines += ["### Targets", "", *_targets(rows), ""]
        lines += ["### Order of the engines", "", *_order(rows), ""]
        lines += ["### All rows", "", *_table(rows), "", *_proof(rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _targets(rows: Sequence[Measured]) -> Iterator[str]:
    yield "The member of olivine that comes closest at each loss on encyclopedia text, and what is asked of it:"
    yield ""
    yield "| KL at most | member | KL | asked | reached | |"
    yield "|---|---|---|---|---|---|"
    for target in TARGETS:
        found = best(target, rows)
        if found is None:
            yield f"| {target.kl:g} | none | | | | missed |"
            continue
        member, checks = found
        asked = "; ".join(f"{check.what} {check.asked}" for check in checks)
        reached = "; ".join(f"{check.what} {check.found}" for check in checks)
        missed = ", ".join(check.missed for check in checks if check.missed)
        verdict = f"missed: {missed}" if missed else "**met**"
        kl = f"{member.divergence(ENCYCLOPEDIA).value:.4f}"
        yield f"| {target.kl:g} | {member.name} | {kl} | {asked} | {reached} | {verdict} |"


def _order(rows: Sequence[Measured]) -> Iterator[str]:
    yield (
        "The best of each engine that loses no more on encyclopedia text than a format of llama.cpp (the upper end of "
        "its interval), the engines in order, each with its format:"
    )
    yield ""
    yield "| no more than | KL at most | smallest | fastest decode | fastest prefill |"
    yield "|---|---|---|---|---|"
    by_title = {row.title: row for row in rows}
    for limit in (by_title[title] for title in (Q8_0, Q6_K, Q5_K_M, Q4_K_M) if title in by_title):
        most = limit.divergence(ENCYCLOPEDIA).high
        within = [row for row in rows if row.timed and row.divergence(ENCYCLOPEDIA).value <= most]
        cells = [_ranked(within, lambda row: -row.bytes, lambda row: f"{row.bytes / 1e6:.1f} MB")]
        for what in ("decode", "prefill"):
            timed = [row for row in within if getattr(row, what)]
            cells.append(_ranked(timed, partial(Measured.rate, what=what), partial(_rate, what=what)))
        yield f"| {limit.name} | {most:.2g} | {' | '.join(cells)} |"


def _ranked(rows: Sequence[Measured], worth: Callable[[Measured], float], text: Callable[[Measured], str]) -> str:
    """The best row of each engine, in order."""
    best: dict[str, Measured] = {}
    for row in sorted(rows, key=worth, reverse=True):
        best.setdefault(row.engine, row)
    return "<br>".join(f"{row.engine} {row.name}: {text(row)}" for row in best.values())


def _table(rows: Sequence[Measured]) -> Iterator[str]:
    by_title = {row.title: row for row in rows}
    yield (
        "| engine | format | KL, encyclopedia | ratio | KL, news | ratio | MB | prefill tok/s | over OpenVINO int8 "
        "| decode tok/s | over Q8_0 |"
    )
    yield "|" + "---|" * 11
    for engine in ENGINES:
        listed = [row for row in rows if row.engine == engine and row.timed]
        for row in sorted(listed, key=lambda row: row.divergence(ENCYCLOPEDIA).value):
            quality = [
                text
                for kind in (ENCYCLOPEDIA, NEWS)
                for text in (_kl(row.divergence(kind)), f"{row.ratio(kind).value:.3f}")
            ]
            speed = [
                text
                for what, title in (("prefill", OPENVINO_INT8), ("decode", Q8_0))
                for text in (_rate(row, what), _over(row, by_title.get(title), what))
            ]
            yield f"| {engine} | {row.name} | {' | '.join(quality)} | {row.bytes / 1e6:.0f} | {' | '.join(speed)} |"


def _proof(rows: Sequence[Measured]) -> Iterator[str]:
    if not any(row.decode for row in rows):
        yield "The speeds have not been measured yet."
        yield ""
    floats = [row for row in rows if not row.timed]
    if floats:
        found = ", ".join(f"{row.title} {row.divergence(ENCYCLOPEDIA).value:.1e}" for row in floats)
        yield f"That all engines have the same weights is seen from their float models: KL {found}."


def _kl(interval: Interval) -> str:
    return f"{interval.value:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def _rate(row: Measured, what: str) -> str:
    return f"{row.rate(what):.0f}" if getattr(row, what) else ""


def _over(row: Measured, other: Measured | None, what: str) -> str:
    if other is None or other is row or not getattr(row, what).keys() & getattr(other, what).keys():
        return ""
    return factor_text(timing.speedup(getattr(row, what), getattr(other, what)))
