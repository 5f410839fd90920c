"""StreamedBase: the base's predictions straight from its checkpoint, by a process that never holds the model whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from olivine.evaluators.process.lifecycle import end_group, how_it_ended, starter_environment
from olivine.evaluators.process.scheduling import die_with_parent
from olivine.evaluators.quality.streamed.child import EXIT_NOT_STREAMED
from olivine.passes.errors import OlivineError
from olivine.passes.store.secrets import without_secrets

#: Told a line for each layer.
Note = Callable[[str], None]


@dataclass(frozen=True)
class StreamedBase:
    """The checkpoint of a base whose graph adds nothing to it but the order of rounding.

    Attributes:
        checkpoint: gives its folder.
    """

    checkpoint: Callable[[], Path]

    def write(self, windows: Sequence[tuple[Sequence[int], int]], path: Path, top_k: int, note: Note) -> bool:
        """Write the file that :meth:`ModelProcess.reference` would, within 1e-4 of its log-probabilities.

        A run that was killed left the hidden states of its last layer beside ``path``, and the next goes on there.

        Args:
            windows: token ids of each window, and how many of its last tokens are scored.
            path: the file to write.
            top_k: how many of the likeliest tokens are kept per position.
            note: told how far it is.

        Returns:
            False where the checkpoint can't be run layer by layer, which ``note`` has then been told.

        Raises:
            OlivineError: when a logit is not finite, or the process died.
        """
        request = {
            "checkpoint": str(self.checkpoint()),
            "windows": [[[int(token) for token in tokens], scored] for tokens, scored in windows],
            "path": str(path),
            "top_k": top_k,
            "scratch": str(path.with_suffix(".layers")),
        }
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as asked:
            asked.write(json.dumps(request).encode())
            asked.seek(0)
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "olivine.evaluators.quality.streamed.child"],
                stdin=asked,
                stdout=subprocess.PIPE,
                stderr=errors,
                process_group=0,
                preexec_fn=die_with_parent,
                env={**without_secrets(os.environ), **starter_environment()},
            )
            assert child.stdout is not None
            try:
                for line in child.stdout:
                    note(f"base, {line.decode().strip()}")
                code = child.wait()
            finally:
                end_group(child)
                child.stdout.close()
            errors.seek(0)
            last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:] or ["it said nothing"]
        if code == EXIT_NOT_STREAMED:
            note(f"the base is scored by its graph, loaded whole: its checkpoint can't be run by layers: {last[0]}")
            return False
        if code != 0:
            raise OlivineError(f"the base can't be scored layer by layer: the process {how_it_ended(code)}: {last[0]}")
        return True
