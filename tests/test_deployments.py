"""The examples in configs/distributed: they parse, and the commands in them are commands of this olivine."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from olivine.search.cli.main import parser

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "configs" / "distributed"


def checked(arguments: list[str]) -> Any:
    """The parsed command line; a mistake in it ends the test."""
    return parser().parse_args(arguments)


def jobs() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "kubernetes-job.yaml").read_text()))


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "kubernetes-job.yaml", "slurm-array.sh"])
def test_each_example_says_what_it_is_for_and_what_it_assumes(name: str) -> None:
    head = (FOLDER / name).read_text().split("\n\n")[0] + (FOLDER / name).read_text()[:2500]
    for word in ("# Purpose: ", "# Assumptions: ", "# Command: "):
        assert word in head


def container_commands() -> Iterator[list[str]]:
    for name, service in services().items():
        if name != "database":
            yield service["command"]
    for job in jobs():
        (container,) = job["spec"]["template"]["spec"]["containers"]
        yield container["args"]


@pytest.mark.parametrize("command", list(container_commands()), ids=lambda command: command[0])
def test_containers_run_commands_that_exist(command: list[str]) -> None:
    given = checked(command)
    assert given.storage.startswith(("postgresql://", "$(OLIVINE_STORAGE)"))
    if not str(given.config).startswith("/study"):
        assert (ROOT / given.config).is_file()


def test_study_and_workers_share_name_storage_and_meeting_place() -> None:
    study, worker = (checked(services()[name]["command"]) for name in ("study", "worker"))
    assert (study.out, study.storage, study.config) == (worker.out, worker.storage, worker.config)
    assert "latency" not in worker.role, "processes of one machine would time each other"
    first, second = (checked(job["spec"]["template"]["spec"]["containers"][0]["args"]) for job in jobs())
    assert (first.out, first.storage, first.artifacts) == (second.out, second.storage, second.artifacts)


def test_pods_have_what_their_commands_name() -> None:
    for job in jobs():
        assert job["apiVersion"] == "batch/v1"
        spec = job["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert set(mounted) == {volume["name"] for volume in spec["volumes"]}
        assert {"/study", "/cache", "/results"} == set(mounted.values())
        assert {variable["name"] for variable in container["env"]} == {"OLIVINE_STORAGE"}


def test_the_image_copies_what_the_package_needs() -> None:
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]}
    assert all((ROOT / name).exists() for name in copied)
    project = (ROOT / "pyproject.toml").read_text()
    for package in ("search", "passes", "evaluators"):
        assert package in copied
    assert 'readme = "README.md"' in project
    assert {"README.md", "LICENSE", "constraints.txt", "pyproject.toml"} <= copied


@pytest.mark.parametrize(("task", "expected"), [("0", "run"), ("2", "worker")])
def test_the_slurm_script_leads_in_task_0_and_joins_in_the_others(task: str, expected: str, tmp_path: Path) -> None:
    """The script itself runs, with a stand-in for olivine that prints what it was asked."""
    script = FOLDER / "slurm-array.sh"
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    fake = tmp_path / ".venv" / "bin" / "olivine"
    fake.write_text('#!/bin/bash\nprintf "%q " "$@"\n')
    fake.chmod(0o755)
    environment = {"SLURM_ARRAY_TASK_ID": task, "OLIVINE_STORAGE": "postgresql://me@db/x", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", str(script), "configs/demo.yaml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    given = checked(shlex.split(done.stdout))
    assert shlex.split(done.stdout)[0] == expected
    assert given.out == Path("results/demo")
    assert given.storage == "postgresql://me@db/x"


def test_the_slurm_script_asks_for_what_it_needs() -> None:
    done = subprocess.run(
        ["bash", str(FOLDER / "slurm-array.sh"), "study.yaml"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "OLIVINE_STORAGE" in done.stderr
