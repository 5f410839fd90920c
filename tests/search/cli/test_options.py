"""Paths and numbers as people give them to commands."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from study_folder import write_study

from olivine.passes.store.atomic_files import write_target
from olivine.search.cli.main import main, parser
from olivine.search.config.load import load_config
from olivine.search.study_dir import StudyDir

COMMANDS = [
    (["run", "~/a.yaml", "--out=~/study"], {"config": "a.yaml", "out": "study"}),
    (["worker", "~/a.yaml", "--storage", "s", "--out=~/study"], {"config": "a.yaml", "out": "study"}),
    (["validate", "~/a.yaml"], {"config": "a.yaml"}),
    (["report", "~/study", "--picture=~/front.svg"], {"study": "study", "picture": "front.svg"}),
    (["export", "~/study", "--to=~/model"], {"study": "study", "to": "model"}),
    (["bench", "~/model", "--json=~/x.json", "--reference=~/base"], {"json": "x.json", "reference": "base"}),
    (["import-olive", "~/olive.json", "--to=~/a.yaml"], {"workflow": "olive.json", "to": "a.yaml"}),
    (["recipes", "copy", "qwen/cpu", "--to=~/a.yaml"], {"to": "a.yaml"}),
    (["provider", "add", "openvino", "--to=~/envs"], {"to": "envs"}),
]


@pytest.mark.parametrize(("words", "paths"), COMMANDS, ids=lambda value: value[0] if isinstance(value, list) else "")
def test_a_tilde_is_the_home_folder_where_no_shell_has_replaced_it(
    words: list[str], paths: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    options = parser().parse_args(words)
    assert {name: getattr(options, name) for name in paths} == {name: tmp_path / path for name, path in paths.items()}


def test_a_tilde_is_the_home_folder_for_caches_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from olivine.passes.store.cache import cache_root
    from olivine.search.builds.study_cache import cache_folder

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("OLIVINE_CACHE", "~/builds")
    assert cache_root() == tmp_path / "builds"
    (tmp_path / "a.yaml").write_text("model: m\nspace: {precision: [int8, int4]}\ncache: {folder: ~/here}\n")
    assert cache_folder(load_config(tmp_path / "a.yaml").cache) == tmp_path / "here"


@pytest.fixture
def study(tmp_path: Path) -> StudyDir:
    return write_study(tmp_path / "study")


def test_a_file_is_written_through_a_link_and_the_link_stays(study: StudyDir, tmp_path: Path) -> None:
    target, link = tmp_path / "elsewhere" / "front.svg", tmp_path / "front.svg"
    target.parent.mkdir()
    link.symlink_to(target)
    for _ in range(2):  # first a link that leads to nothing yet
        assert main(["report", str(study.root), "--picture", str(link)]) == 0
        assert link.is_symlink()
        assert target.read_text().startswith("<svg")


def test_a_device_or_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    write_target(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_target(fifo, "text")
    assert os.read(reader, 100) == b"text"
    os.close(reader)
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_a_dash_is_standard_output_and_the_words_go_to_standard_error(
    name: str, study: StudyDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", str(study.root), "--picture", name]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("<svg")
    assert said.out.rstrip().endswith("</svg>")
    assert "report.html" in said.err
    assert not (tmp_path / "-").exists()


def test_measurements_on_standard_output_are_json_alone(
    tiny_onnx: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bench", str(tiny_onnx), "--prompt-tokens", "8", "--new-tokens", "3", "--seconds", "0.1"]
    assert main([*words, "--json", "-"]) == 0
    said = capsys.readouterr()
    assert "tpot_ms" in json.loads(said.out)[str(tiny_onnx)]
    assert "reference" in said.err


@pytest.mark.parametrize("option", ["--json", "--picture", "--out", "--to"])
def test_a_place_that_can_not_be_written_is_refused_before_any_work(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "--json": ["bench", "x"],
        "--picture": ["report", "x"],
        "--out": ["run", "x.yaml"],
        "--to": ["build", "x"],
    }[option]
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main([*words, option, str(tmp_path / "file" / "below")])
    assert ended.value.code == 2
    assert f"argument {option}: {tmp_path / 'file' / 'below'} can't be made: {tmp_path / 'file'} is no folder" in (
        capsys.readouterr().err
    )


def test_a_cache_in_the_place_of_a_file_is_named(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "file"))
    config = tmp_path / "a.yaml"
    config.write_text(f"model: {tiny_llama}\nspace: {{precision: [int8, int4]}}\nkernel_probe: false\n")
    for words in (
        ["plan", str(config)],
        ["run", str(config), "--out", str(tmp_path / "study")],
        ["build", str(tiny_llama), "--to", str(tmp_path / "model")],
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert str(tmp_path / "file") in error
        assert "OLIVINE_CACHE" in error
    assert not (tmp_path / "study").exists()


def test_a_link_as_target_folder_stands_for_its_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "not-yet")
    assert parser().parse_args(["build", "m", "--to", str(tmp_path / "link")]).to == tmp_path / "not-yet"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["bench", "a", "--half-width", "1,5%"], "with a decimal point it is 1.5%"),
        (["bench", "a", "--seconds", "1,5"], "with a decimal point it is 1.5"),
        (["worker", "a", "--storage", "s", "--wait", "1:30"], "as a time it is 1h30m or 1m30s"),
    ],
)
def test_a_mistake_in_a_number_shows_how_it_is_written(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(words)
    assert hint in " ".join(capsys.readouterr().err.split())


def test_times_of_options_are_written_as_in_a_study() -> None:
    assert parser().parse_args(["bench", "a", "--seconds", "1e1"]).seconds == 10
    assert parser().parse_args(["bench", "a", "--seconds", "20"]).seconds == 20
    assert parser().parse_args(["worker", "a", "--storage", "s"]).wait == 1800


def test_a_scenario_says_how_long_prompts_are_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "a", "--scenario", "rag", "--prompt-tokens", "8"]) == 2
    assert "leave --prompt-tokens and --new-tokens out" in capsys.readouterr().err
    assert main(["bench", "a", "--scenario", "ragg"]) == 2
    assert "Did you mean 'rag'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["bench", "eval"])
def test_a_half_width_is_a_share(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([command, "a", "--half-width", "1%"]).half_width == pytest.approx(0.01)
    for wrong in ("0", "200%", "wide"):
        with pytest.raises(SystemExit) as caught:
            parser().parse_args([command, "a", "--half-width", wrong])
        assert caught.value.code == 2
        assert f"'{wrong}' is no share between 0 and 1; give it as 2% or 0.02" in capsys.readouterr().err
