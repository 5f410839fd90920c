"""``olivine build`` of what no study searches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from olivine.passes.artifact import GENAI_CONFIG
from olivine.search.cli.main import main


@pytest.mark.usefixtures("olivine_cache")
def test_a_build_may_speculate_but_not_with_a_pruned_head(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guessing = ["--set", "ngram_size=3", "--set", "max_draft_tokens=6"]
    assert main(["build", str(tiny_llama), "--to", str(tmp_path / "built"), *guessing]) == 0
    config = json.loads((tmp_path / "built" / GENAI_CONFIG).read_text())
    assert config["speculative"] == {"ngram_size": 3, "max_draft_tokens": 6}
    rebuild = json.loads((tmp_path / "built" / "olivine.json").read_text())["rebuild"]
    assert "--set ngram_size=3 --set max_draft_tokens=6" in rebuild
    assert main(["verify", str(tmp_path / "built")]) == 0
    capsys.readouterr()
    pruned = ["--set", "prune_head=true", "--set", "ngram_size=3"]
    assert main(["build", str(tiny_llama), "--to", str(tmp_path / "both"), *pruned]) == 2
    said = "--set.ngram_size: has no effect: no combination uses it while provider is cpu, prune_head is true"
    assert said in " ".join(capsys.readouterr().err.split())
