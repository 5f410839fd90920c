"""Commands write to whatever they are given: closed, broken and full outputs, ASCII, narrow terminals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from study_folder import write_study

from olivine.search.study_dir import StudyDir

OLIVINE = [sys.executable, "-m", "olivine.search.cli.main"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyDir:
    folder = write_study(tmp_path_factory.mktemp("study") / "study")
    with folder.config_path.open("a") as config:
        config.write("space: {precision: [int8, int4]}\n")
    return folder


def run(*words: str, env: dict[str, str] | None = None, redirect: str = "") -> subprocess.CompletedProcess[str]:
    """A command as a shell starts it, with its redirections."""
    shell = f'"$@" {redirect}'
    command = ["bash", "-c", shell, "bash", *OLIVINE, *words]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | (env or {}), check=False)


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_runs_without_some_of_its_streams(redirect: str, study: StudyDir) -> None:
    done = run("trials", str(study.root), redirect=redirect)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_is_opened_does_not_become_the_standard_output(tmp_path: Path, study: StudyDir) -> None:
    before = (study.root / "config.yaml").read_bytes()
    assert run("report", str(study.root), redirect=">&- 2>&-").returncode == 0
    assert (study.root / "config.yaml").read_bytes() == before
    assert str(study.root) not in study.report_path.read_text().splitlines()[0]


def test_a_reader_that_leaves_ends_nothing(study: StudyDir) -> None:
    done = run("trials", str(study.root), "--json", redirect="| head -c 10; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_one_clear_error(study: StudyDir) -> None:
    done = run("trials", str(study.root), "--json", redirect="> /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("olivine: No space is left")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_signs_that_an_encoding_lacks_are_replaced(encoding: str, study: StudyDir) -> None:
    command = [*OLIVINE, "trials", str(study.root)]
    done = subprocess.run(command, capture_output=True, env=os.environ | {"PYTHONIOENCODING": encoding}, check=True)
    text = done.stdout.decode(encoding)
    assert ("2.41x +-0.05" if encoding == "ascii" else "2.41x ±0.05") in text
    assert "?" not in text


@pytest.mark.parametrize("columns", [160, 80, 40])
def test_trials_say_what_each_was_and_why_one_failed_in_any_width(columns: int, study: StudyDir) -> None:
    done = run("trials", str(study.root), env={"COLUMNS": str(columns)})
    assert max(len(line) for line in done.stdout.splitlines()) <= columns
    text = " ".join(done.stdout.split())
    assert "precision int4, block_size 256, algorithm gptq" in text
    assert "the process that built it was killed" in text
    assert "…" not in text
    assert ("not shown in 40 columns" in text) == (columns == 40)


def test_a_table_in_a_pipe_is_wide(study: StudyDir) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [*OLIVINE, "trials", str(study.root)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert 80 < max(len(line) for line in done.stdout.splitlines()) <= 160


def test_a_long_path_stays_on_one_line_and_its_colons_are_no_emoji(tmp_path: Path) -> None:
    folder = write_study(tmp_path / ":x:" / ("long " * 40).strip() / "[bold]study")
    done = run("report", str(folder.root), env={"COLUMNS": "60"})
    assert done.stdout == f"{folder.report_path}\n"


def test_commands_that_are_shown_can_be_pasted(tmp_path: Path) -> None:
    to = tmp_path / "a b?.yaml"
    done = run("recipes", "copy", "qwen/cpu", "--to", str(to))
    assert f"olivine plan '{to}' says" in done.stdout
