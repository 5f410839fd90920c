"""The proof of a float export, as the cache keeps it beside the export: made once, read by all that is built on it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from olivine.passes.artifact import ModelArtifact
from olivine.passes.base import ExportPass
from olivine.passes.parity.agreement import Agreement
from olivine.passes.store.cache import Cache
from olivine.passes.store.digests import digest

#: Raised whenever a comparison would find what it did not find before.
VERSION = 2
_FILE = "proof.json"
_NO_KERNELS = "the CPU has no kernels of its float type"


def proof_key(export: str) -> str:
    """Key of the entry that proves the export under a key."""
    return digest(["proof", VERSION, export])


def known_proof(export: str, cache: Cache) -> dict[str, Any] | None:
    """The proof of the export under a key, as plain values; None where it was not proven, or not here."""
    entry = cache.get(proof_key(export))
    if entry is None:
        return None
    proof: dict[str, Any] = json.loads((entry.path / _FILE).read_text(encoding="utf-8"))
    return proof


def keep_proof(checkpoint: ModelArtifact, export: ModelArtifact, by: ExportPass, cache: Cache) -> None:
    """Prove an export, and keep the proof.

    Raises:
        WrongGraph: when it is not the model of its checkpoint.
        SourceError: when the checkpoint lacks weights.
    """

    def prove() -> dict[str, Any]:
        from olivine.passes.parity.gate import prove  # imports torch

        agreement = prove(checkpoint.path, export.path, str(by.params().get("precision", "fp32")))
        return {"not_compared": _NO_KERNELS} if agreement is None else agreement.to_json()

    keep(export.key, prove, cache)


def keep(export: str, prove: Callable[[], Mapping[str, Any]], cache: Cache) -> None:
    """Keep what ``prove`` gives as the proof of the export under a key."""

    def write(to: Path) -> frozenset[str]:
        (to / _FILE).write_text(json.dumps(dict(prove()), indent=1), encoding="utf-8")
        return frozenset({"proof"})

    cache.put(proof_key(export), write)


def proof_among(passes: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The proof among the rows of a build's passes; None where none has one."""
    return next((row["proof"] for row in passes if row.get("proof")), None)


def notes_among(passes: Iterable[Mapping[str, Any]]) -> list[str]:
    """The sentences on what passes left undone, among the rows of a build's passes."""
    return [str(row["note"]) for row in passes if row.get("note")]


def proof_sentence(proof: Mapping[str, Any] | None) -> str:
    """The sentence of a proof, for people; empty where there is none."""
    if not proof:
        return ""
    if reason := proof.get("not_compared"):
        return f"the base was not compared with its checkpoint: {reason}"
    if "inputs" in proof:
        return (
            f"the graph agrees with its checkpoint: largest difference of an output {proof['largest_difference']:.1g} "
            f"over {proof['inputs']} inputs, where outputs spread by {proof['spread']:.2g}"
        )
    return Agreement.from_json(proof).sentence() + "".join(
        f"; {gap}" for gap in (*proof["not_covered"], *proof.get("words", ()))
    )
