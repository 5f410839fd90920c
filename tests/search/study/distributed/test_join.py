"""``olivine worker``: what it does here, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny_study import tiny_config, tiny_yaml, write_text

from olivine.passes.errors import UsageError
from olivine.search.builds.calibration_text import Calibration, CalibrationText
from olivine.search.cli.main import main
from olivine.search.report.progress import LineOutput
from olivine.search.study.distributed.hardware import HardwareFingerprint
from olivine.search.study.distributed.join import refuse_other_text, roles_here
from olivine.search.study.distributed.open_shared import digest_of
from olivine.search.study.machine_defaults import resolve
from olivine.search.study.storage import shown
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.registry import workload_of

HERE = HardwareFingerprint("EPYC", 2, 24, (), ("cpu",), {"onnxruntime": "1.31.1"})


def stages(roles: list[str], there: HardwareFingerprint) -> tuple[tuple[str, ...], str]:
    console = Console(record=True, width=200)
    return roles_here(roles, HERE, there, LineOutput(console)), console.export_text()


def test_a_worker_of_the_same_hardware_does_everything() -> None:
    assert stages(["all"], HERE) == (("build", "quality", "latency"), "")
    assert HardwareFingerprint.from_json(HERE.to_json()) == HERE


def test_other_hardware_builds_and_scores_and_says_why_it_times_nothing() -> None:
    found, said = stages(["all"], replace(HERE, cores=8, versions={"onnxruntime": "1.30.0"}))
    assert found == ("build", "quality")
    assert "cores 2, not 8" in said
    assert "onnxruntime 1.31.1, not onnxruntime 1.30.0" in said


def test_a_latency_worker_on_other_hardware_is_refused() -> None:
    with pytest.raises(UsageError, match="cpu EPYC, not Xeon"):
        stages(["latency"], replace(HERE, cpu="Xeon"))


def test_all_cores_are_those_of_the_study() -> None:
    machine = {"threads": 8, "reduce_range": False}
    assert resolve({"threads": 0, "precision": "int8"}, machine) == {"threads": 8, "precision": "int8"}
    assert resolve({"threads": 3}, machine) == {"threads": 3}
    assert resolve({"reduce_range": True}, machine) == {"reduce_range": False}
    assert resolve({"reduce_range": True}, machine, {"reduce_range"}) == {"reduce_range": True}


def test_budgets_may_differ_between_workers_and_spaces_may_not(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text.txt")

    def digest(**changes: Any) -> str:
        return digest_of(workload_of(tiny_config(tmp_path, text, **changes), StudyDir(tmp_path)))

    assert digest() == digest(stop={"trials": 9})
    assert digest() != digest(seed=1)


def test_passwords_are_not_printed() -> None:
    assert shown("postgresql://me:secret@host/x") == "postgresql://me:...@host/x"
    assert shown("grpc://host:1") == "grpc://host:1"


def test_a_study_that_nobody_leads_is_named_with_those_that_are_there(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"))))
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    assert main(["worker", str(config), "--storage", url, "--out", str(tmp_path / "st"), "--wait", "0.1s"]) == 2
    assert "study 'st' is not in this storage; it has none" in capsys.readouterr().err


def test_a_worker_scores_what_the_study_times(tmp_path: Path, tiny_llama: Path) -> None:
    """Two real processes and a real model: one builds and scores, the other does the rest and ends the study."""
    config = tmp_path / "tiny.yaml"
    space = {"precision": ["int8", "int4"], "block_size": [16, 32, 64, 128], "lm_head": ["same", "int8"]}
    raw = tiny_yaml(tiny_llama, write_text(tmp_path / "text.txt"), space=space, stop={"trials": 12})
    config.write_text(yaml.safe_dump(raw))  # long enough that the worker finds work, however late it comes
    common = [str(config), "--storage", f"sqlite:///{tmp_path / 'shared.db'}", "--artifacts", f"file://{tmp_path}/meet"]
    command = [
        sys.executable,
        "-m",
        "olivine.search.cli.main",
        "worker",
        *common,
        "--role",
        "build",
        "--role",
        "quality",
    ]
    command += ["--out", str(tmp_path / "elsewhere" / "study")]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert main(["run", *common, "--out", str(tmp_path / "study")]) == 0
        said = worker.communicate(timeout=60)[0]
    finally:
        worker.kill()
    assert worker.returncode == 0, said
    records = StudyDir.open(tmp_path / "study").trials()
    assert [record.number for record in records] == list(range(13))
    assert len({record.recipe_key for record in records}) == 13
    helped = [record for record in records if len(set(record.workers.values())) == 2]
    assert helped, said
    for record in helped:
        assert record.state == "complete"
        assert record.workers["quality"] != record.workers["latency"]
        assert {"perplexity_ratio", "tpot_ms", "peak_rss_bytes"} <= set(record.metrics)
        assert f"trial {record.number} waits for a worker that does latency" in said


def test_a_machine_on_which_the_model_writes_another_text_is_refused() -> None:
    here = Calibration(CalibrationText(own=0.5), "demo:news", "a key")
    refuse_other_text(here, "a key")
    refuse_other_text(here, None)  # the study learns from given text alone, or begun before models wrote any
    refuse_other_text(None, "another")  # no candidate learns
    with pytest.raises(UsageError, match=r"writes another text .* begin a study with calibration: {own: 0}"):
        refuse_other_text(here, "another")
