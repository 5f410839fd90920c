"""Every input of the corpus is refused or accepted, and nothing else happens; known attacks are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.readers import CORPUS, READERS, run

INPUTS = [(reader, path) for reader in READERS for path in sorted((CORPUS / reader).iterdir())]
SOUND = ("seed-whole", "seed-demo")


@pytest.mark.parametrize(("reader", "path"), INPUTS, ids=[f"{reader}-{path.name}" for reader, path in INPUTS])
def test_an_input_of_the_corpus_is_refused_or_accepted(reader: str, path: Path) -> None:
    accepted = run(reader, path.read_bytes())
    if path.name in SOUND:
        assert accepted


ATTACKS = [
    ("yaml", ("laughs", "python-tag", "itself", "deep", "digits", "no-day")),
    ("gguf", ("many-fields", "long-name", "long-array", "nested", "large-tensor", "version-1")),
    ("safetensors", ("overlap", "gap", "huge", "long-header", "twice", "deep", "digits")),
    ("external", ("parent", "absolute", "beyond", "negative", "absurd", "subgraph")),
]


@pytest.mark.parametrize(("reader", "name"), [(reader, name) for reader, names in ATTACKS for name in names])
def test_an_attack_is_refused(reader: str, name: str) -> None:
    assert not run(reader, (CORPUS / reader / f"seed-{name}").read_bytes())
