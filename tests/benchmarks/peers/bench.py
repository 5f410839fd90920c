"""``make bench-peers``: olivine beside llama.cpp, OpenVINO and the model builder's defaults, on one machine.

All engines get the same weights, tokens, prompts and number of threads. For each model:

1. ``make``: every engine's formats of the checkpoint, and olivine's members (``members.yaml``);
2. ``score``: KL divergence and perplexity against the float checkpoint, at all positions of the same windows;
3. ``time``: prefill and decode in rounds, each row in a fresh process, in random order;
4. ``page``: tables, targets and picture out of what was measured.

Everything that was measured is kept in the work folder with the hash of the model that it is of, so that the same
command goes on where it was ended, and measures only rows that are new.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peers import members, page, picture
from peers.texts import Texts, read

from olivine.evaluators.peers.comparison import Comparison, kept_results
from olivine.evaluators.peers.rivals import Rivals
from olivine.evaluators.peers.rows import Row
from olivine.passes.pipeline import source_artifact
from olivine.passes.sources.source import resolve
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.cache import Cache, cache_root

STEPS = ("make", "score", "time", "page")
DEMO = "SmolLM2-135M=demo:smollm2-135m-instruct"


@dataclass(frozen=True)
class Subject:
    """A model that engines are compared on.

    Attributes:
        name: on the page.
        model: as ``model:`` of a study takes it.
        work: what was made and measured is kept here.
        home: environments of the other engines.
        threads: of every engine.
        build: make olivine's members anew; else those of the last run are taken.
    """

    name: str
    model: str
    work: Path
    home: Path
    threads: int
    build: bool

    @cached_property
    def checkpoint(self) -> Path:
        """The Hugging Face folder that all engines get."""
        return source_artifact(resolve(self.model), Cache(cache_root())).path

    @cached_property
    def texts(self) -> Texts:
        """In the model's tokens."""
        return read(self.checkpoint)

    @cached_property
    def rows(self) -> list[Row]:
        """All rows; made where they are not there, olivine's by every step ``make``."""
        rivals = Rivals(self.checkpoint, self.work, self.home, self.texts.calibration, self.threads)
        return [*rivals.rows(), *members.rows(self.model, self.work, self.threads, self.build)]

    @cached_property
    def comparison(self) -> Comparison:
        """Its rows on its texts."""
        return Comparison(self.checkpoint, self.rows, self.texts.windows, self.texts.prompts, self.work)


def main() -> None:
    """Do the steps that are asked for, of every model."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=Path, required=True, help="the page; its picture lies beside it")
    parser.add_argument("--model", action="append", metavar="NAME=MODEL", help=f"by default {DEMO}")
    parser.add_argument("--work", type=Path, default=Path("build/peers"))
    parser.add_argument("--home", type=Path, default=Path("envs/peers").resolve())
    parser.add_argument("--threads", type=int, default=2, help="of every engine")
    parser.add_argument("--jobs", type=int, default=1, help="rows that are scored at once")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no visit after so long: one slice")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    options = parser.parse_args()
    subjects = []
    for given in options.model or [DEMO]:
        name, model = given.split("=", 1)
        work = (options.work / "".join(c if c.isalnum() or c in "-." else "-" for c in name)).resolve()
        build = "make" in options.steps
        subjects.append(Subject(name, model, work, options.home.absolute(), options.threads, build))
    for subject in subjects:
        if "make" in options.steps:
            print(f"{subject.name}: {len(subject.rows)} rows", flush=True)
        if "score" in options.steps:
            subject.comparison.score(options.jobs)
        if "time" in options.steps and not subject.comparison.time(options.rounds, options.seconds):
            print("not all rounds are there yet: the same command goes on with them", flush=True)
    if "page" in options.steps:
        results = {subject.name: kept_results(subject.work) for subject in subjects}
        demo = [subject.name for subject in subjects if subject.model == DEMO.split("=")[1]]
        write_atomic(options.to, page.page(results, options.threads, options.to.with_suffix(".svg").name, demo))
        write_atomic(options.to.with_suffix(".svg"), picture.picture(next(iter(results.values()))))


if __name__ == "__main__":
    main()
