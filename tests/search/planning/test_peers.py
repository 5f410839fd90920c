"""``olivine optimize --peers``: the selection beside other engines, whose programs are simulated here."""

from __future__ import annotations

import io
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from study_folder import write_study
from tiny_study import tiny_config, write_text

from olivine.evaluators.peers import timing
from olivine.evaluators.peers.process import ENGINES
from olivine.evaluators.peers.rivals import RivalFailed
from olivine.evaluators.peers.summary import PeerRow, from_json
from olivine.passes.errors import UsageError
from olivine.passes.sources.source import resolve
from olivine.search.planning import peers
from olivine.search.planning.optimize_request import OptimizeWords
from olivine.search.planning.peers import Peers
from olivine.search.report.report import render
from olivine.search.report.tables import peers_table
from olivine.search.study_dir import StudyDir

#: Makes what a converter is asked for, or answers as an engine whose next token is always as likely as any other.
PROGRAM = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(ENGINES)!r})
script, words = Path(sys.argv[1]).name, sys.argv[2:]
if script in ("llama.py", "openvino_pipeline.py"):
    import numpy as np
    from worker import serve

    class Even:
        def logits(self, tokens):
            return np.zeros((len(tokens), VOCABULARY), np.float32)

        def generate(self, prompt, new_tokens):
            return len(prompt) / 100, (new_tokens - 1) / 10

    serve(Even())
elif "FAILS" in words:
    sys.exit("no such type")
else:
    Path(words[-1]).write_text("a model of " + script)
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Environments with a program in the place of both engines."""
    folder = tmp_path / "engines"
    for needed in ("python/bin", "llama.cpp/build/bin", "llama.cpp/vendor/llama.cpp"):
        (folder / needed).mkdir(parents=True)
    (folder / "llama.cpp/vendor/llama.cpp/convert_hf_to_gguf.py").touch()
    (tmp_path / "program.py").write_text(PROGRAM.replace("VOCABULARY", "512"))
    python = folder / "python/bin/python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "program.py"} "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round of short prompts, and windows that a tiny model takes."""
    for name, value in {"WINDOWS": 2, "WINDOW_TOKENS": 24, "PROMPT_TOKENS": 8, "ROUNDS": 1}.items():
        monkeypatch.setattr(peers, name, value)
    monkeypatch.setattr(timing, "NEW_TOKENS", 3)
    monkeypatch.setattr(timing, "SETTLE_S", 0.0)


def _peers(model: Path, home: Path, study: Path, said: list[str]) -> Peers:
    return Peers(resolve(str(model)), home, StudyDir(study), said.append)


@pytest.mark.usefixtures("short", "olivine_cache")
def test_the_selection_is_measured_beside_the_usual_formats_and_shown_in_report_and_terminal(
    tiny_llama: Path, tiny_onnx: Path, home: Path, tmp_path: Path
) -> None:
    study, said = write_study(tmp_path / "study"), list[str]()
    config = tiny_config(tiny_llama, write_text(tmp_path / "text.txt"))
    asked = _peers(tiny_llama, home, study.root, said)
    assert asked.refusal("cpu") == ""
    rows = asked.compare(config, tiny_onnx)
    formats = ["olivine selection", "llama.cpp Q8_0", "llama.cpp Q4_K_M", "OpenVINO int8", "OpenVINO int4 g64"]
    assert [f"{row.engine} {row.name}" for row in rows] == formats
    assert from_json(study.peers_path.read_text())[1].name == "Q8_0"
    ours, theirs = rows[0], rows[1]
    assert ours.kl["text.txt"][0] == pytest.approx(0, abs=1e-6), "a float folder loses nothing"
    assert theirs.kl["text.txt"][0] > 0
    assert theirs.bytes == len("a model of quantize_gguf.py")
    assert theirs.decode == pytest.approx(10.0)
    assert ours.decode_over is None
    console = Console(file=io.StringIO(), width=240)
    console.print(peers_table(rows))
    for text in (console.file.getvalue(), render(study)):  # type: ignore[attr-defined]
        assert all(word in text for word in ("Q4_K_M", "int4 g64", "KL on text.txt", "selection"))
    assert "making Q8_0.gguf" in said
    made = len([line for line in said if line.startswith("making")])
    asked.compare(config, tiny_onnx)
    assert len([line for line in said if line.startswith("making")]) == made, "what is there is not made again"


def test_engines_that_are_not_installed_are_one_line_that_says_how_to(tiny_llama: Path, tmp_path: Path) -> None:
    refusal = _peers(tiny_llama, tmp_path / "nowhere", tmp_path, []).refusal("cpu")
    assert "\n" not in refusal
    assert str(tmp_path / "nowhere") in refusal
    assert "'make peers'" in refusal


def test_a_graph_and_another_provider_than_the_cpu_are_refused(tiny_llama: Path, tiny_onnx: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="ONNX graph; the other engines need its checkpoint"):
        _peers(tiny_onnx, home, home, []).refusal("cpu")
    with pytest.raises(UsageError, match="this study runs on 'cuda'"):
        _peers(tiny_llama, home, home, []).refusal("cuda")


def test_a_budget_of_nothing_has_no_selection_to_compare() -> None:
    with pytest.raises(UsageError, match="with a budget of 0 nothing is searched"):
        OptimizeWords("some/model", budget="0", peers="envs/peers").parse()
    assert OptimizeWords("some/model", peers="envs/peers").parse().peers == "envs/peers"


def test_a_search_is_resumed_with_other_engines_or_none(tmp_path: Path) -> None:
    words = partial(OptimizeWords, "some/model")
    words().parse().store(tmp_path)
    words(peers="envs/peers").parse().check_same(tmp_path)
    assert "--peers envs/peers" in words(peers="envs/peers").parse().command(tmp_path)


@pytest.mark.usefixtures("short", "olivine_cache")
def test_an_engine_that_can_not_make_its_model_is_an_error_with_its_last_words(
    tiny_llama: Path, tiny_onnx: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "GGUF", ("FAILS",))
    asked = _peers(tiny_llama, home, tmp_path / "study", [])
    with pytest.raises(RivalFailed, match=r"FAILS.gguf could not be made \(exit code 1\):\n  no such type"):
        asked.compare(tiny_config(tiny_llama, write_text(tmp_path / "text.txt")), tiny_onnx)


def test_a_row_that_was_never_timed_undisturbed_says_so() -> None:
    row = PeerRow("OpenVINO", "int8", 165_000_000, {"news": (0.005, 0.004, 0.006)}, None, 3000.0, None, (0.9, 0.8, 1.0))
    cells = ["OpenVINO", "int8", "165", "not timed", "", "3000", "0.90x [0.80, 1.00]", "0.0050 [0.0040, 0.0060]"]
    assert row.cells() == cells
