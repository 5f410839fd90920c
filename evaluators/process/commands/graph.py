"""Commands for a graph that is no decoder, answered by servers/graph.py."""

from __future__ import annotations

from pathlib import Path

from olivine.evaluators.process.connection import Connection
from olivine.evaluators.process.messages import Done, OutputScore, Timing
from olivine.passes.store.atomic_files import staged


class GraphCommands:
    """The commands for a graph: named inputs in, outputs out."""

    _connection: Connection

    def run(self, feeds: Path, number: int, times: int) -> Timing:
        """Run the graph on one feed of a file; one time a run.

        Args:
            feeds: .npz with each array under ``number/input``.
            number: of the feed.
            times: runs.
        """
        return self._connection.request_times("run", times, feeds=str(feeds), number=number, times=times)

    def outputs(self, feeds: Path, count: int, path: Path, output: str | None) -> None:
        """Store a graph's output for the first ``count`` feeds, to compare with, in ``path`` (.npz; whole or absent).

        Raises:
            ModelProcessFailed: of kind ``error`` when the graph has no such output, or it is not finite.
        """
        with staged(path) as staging:
            self._connection.request(Done, "outputs", feeds=str(feeds), count=count, path=str(staging), output=output)

    def compare(
        self, feeds: Path, number: int, stored: Path, output: str | None, logits: bool, apart: bool = False
    ) -> OutputScore:
        """Compare a graph's output with one that :meth:`outputs` stored; ``apart``: each logit is a label's own."""
        return self._connection.request(
            OutputScore,
            "compare",
            feeds=str(feeds),
            number=number,
            stored=str(stored),
            output=output,
            logits=logits,
            apart=apart,
        )
