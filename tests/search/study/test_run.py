"""The main job, whole, on a tiny random model: real export, real builds, real processes."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import optuna
import pytest
import yaml
from tiny_study import tiny_yaml, write_text

from olivine.passes.kernel import Kernel
from olivine.search.answers.folders import MadeFolder, Verification
from olivine.search.answers.study import Front, Status
from olivine.search.cli.main import main
from olivine.search.export.folder import card_table, file_table
from olivine.search.samplers.masks import Masks
from olivine.search.study_dir import StudyDir

pytestmark = pytest.mark.usefixtures("olivine_cache")


def write_config(folder: Path, model: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_yaml(model, write_text(folder / "text.txt"), **changes)))
    return path


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> StudyDir:
    """A finished study; do not write into it."""
    root = tmp_path_factory.mktemp("run")
    config = write_config(root, tiny_llama)
    command = ["run", str(config), "--out", str(root / "study"), "--set", "confirm.ablation=true"]
    command += ["--json", str(root / "status.json")]
    assert main(command) == 0
    return StudyDir.open(root / "study")


def test_every_trial_has_a_record_and_the_base_is_trial_0(study: StudyDir) -> None:
    records = study.trials()
    assert [record.number for record in records] == [0, 1, 2, 3, 4]
    base = records[0]
    assert base.value("perplexity_ratio") == 1.0
    assert base.value("tpot_speedup") == 1.0
    assert base.value("kl_divergence") == 0.0
    for record in records[1:]:
        assert record.state == "complete"
        assert record.value("model_bytes") < base.value("model_bytes")
        assert record.metrics["tpot_ms"].low <= record.value("tpot_ms") <= record.metrics["tpot_ms"].high
        assert {"build", "quality", "latency"} <= set(record.phases)
        assert record.build_peak_rss_bytes > 0
        assert record.versions["onnxruntime"]


def test_the_selected_recipe_is_measured_without_each_of_its_ingredients(study: StudyDir) -> None:
    outcome = study.outcome()
    assert outcome.trial is not None
    params = study.trial(outcome.trial).params
    plain = {"block_size": 32, "lm_head": "same"}
    expected = {axis: value for axis, value in plain.items() if params[axis] != value}
    assert {part.axis: part.ablated_value for part in outcome.ablation} == expected
    assert all(part.metrics["tpot_speedup"].value > 0 and not part.reason for part in outcome.ablation)


def test_no_recipe_is_measured_twice(study: StudyDir) -> None:
    keys = [record.recipe_key for record in study.trials()]
    assert len(set(keys)) == len(keys)


def test_optuna_storage_agrees_with_the_records(study: StudyDir) -> None:
    stored = optuna.load_study(study_name="olivine", storage=f"sqlite:///{study.database_path}")
    assert stored.metric_names == ["tpot_ms", "perplexity_ratio"]
    for frozen, record in zip(stored.trials, study.trials(), strict=True):
        assert frozen.state == optuna.trial.TrialState.COMPLETE
        assert frozen.values == [record.value("tpot_ms"), record.value("perplexity_ratio")]
        assert frozen.user_attrs["recipe_key"] == record.recipe_key


def test_front_csv_has_the_columns_others_rely_on(study: StudyDir) -> None:
    rows = list(csv.DictReader(study.front_path.read_text().splitlines()))
    assert sum(row["selected"] == "True" for row in rows) == 1
    columns = (
        "trial,selected,precision,block_size,lm_head,tpot_ms,tpot_speedup,tpot_speedup_low,tpot_speedup_high,ttft_ms,"
        "ttft_speedup,ttft_speedup_low,ttft_speedup_high,perplexity,perplexity_ratio,perplexity_ratio_low,"
        "perplexity_ratio_high,kl_divergence,top1_agreement,model_bytes,peak_rss_bytes,runtime,dominated_probability,"
        "tpot_speedup_search,ttft_speedup_search,perplexity_ratio_search"
    )
    assert list(rows[0]) == columns.split(",")
    for row in rows:
        assert float(row["tpot_speedup_low"]) <= float(row["tpot_speedup"]) <= float(row["tpot_speedup_high"])


def test_confirmation_uses_text_the_search_never_saw(study: StudyDir) -> None:
    outcome = study.outcome()
    assert outcome.trial is not None
    assert outcome.metrics["perplexity_ratio"].protocol["split"] == "confirm"
    assert study.trial(outcome.trial).metrics["perplexity_ratio"].protocol["split"] == "select"


def test_report_and_environment_are_written(study: StudyDir) -> None:
    assert "<html" in study.report_path.read_text()
    environment = study.environment()
    assert environment["cores"] >= 1
    assert environment["versions"]["optuna"].startswith("5.")


def test_exported_folder_answers_in_plain_genai_and_verifies(
    study: StudyDir, capsys: pytest.CaptureFixture[str]
) -> None:
    code = (
        "import sys, onnxruntime_genai as og\n"
        "model = og.Model(sys.argv[1]); tokenizer = og.Tokenizer(model)\n"
        "params = og.GeneratorParams(model); params.set_search_options(max_length=12)\n"
        "generator = og.Generator(model, params); generator.append_tokens(tokenizer.encode('abc'))\n"
        "while not generator.is_done(): generator.generate_next_token()\n"
        "print(len(generator.get_sequence(0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(study.best_path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 3
    assert main(["verify", str(study.best_path)]) == 0
    assert "what was exported" in capsys.readouterr().out


def test_verify_names_the_file_with_a_flipped_byte(
    study: StudyDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(study.best_path, tmp_path / "best")
    weights = folder / "model.onnx.data"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    assert main(["verify", str(folder)]) == 1
    assert "model.onnx.data was changed" in capsys.readouterr().err


def test_the_manifest_rebuilds_the_same_bytes(study: StudyDir, tmp_path: Path) -> None:
    manifest = json.loads((study.best_path / "olivine.json").read_text())
    words = manifest["rebuild"].replace("DIR", str(tmp_path / "again")).split()
    assert words[0] == "olivine"
    assert main(words[1:]) == 0
    again = json.loads((tmp_path / "again" / "olivine.json").read_text())
    assert again["files"] == manifest["files"]
    assert again["recipe_key"] == manifest["recipe_key"]


def test_a_package_holds_the_selected_model_whole_with_its_card(study: StudyDir, tmp_path: Path) -> None:
    command = ["export", str(study.root), "--package", "zip", "--to", str(tmp_path / "tiny.zip")]
    assert main(command) == 0
    assert main(command) == 2  # it is there
    with zipfile.ZipFile(tmp_path / "tiny.zip") as archive:
        archive.extractall(tmp_path)
    model = tmp_path / "tiny" / "model"
    manifest, best = (json.loads((home / "olivine.json").read_text()) for home in (model, study.best_path))
    assert manifest["files"] == best["files"] == file_table(model)
    assert manifest["selection"] == best["selection"]
    assert manifest["card"] == card_table(model)
    assert set(manifest["card"]) == {"README.md", "front.svg"}
    page = (model / "README.md").read_text()
    assert best["selection"]["reason"] in page
    assert "](front.svg)" in page
    assert (model / "front.svg").read_text() == (study.best_path / "front.svg").read_text()


def test_export_of_another_trial_refuses_to_overwrite(
    study: StudyDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    assert main(["export", str(study.root), "--trial", "1", "--to", str(to)]) == 0
    assert json.loads((to / "olivine.json").read_text())["study"] == {"name": "tiny", "trial": 1}
    assert main(["export", str(study.root), "--trial", "1", "--to", str(to)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["export", str(study.root), "--trial", "1", "--to", str(to), "--force"]) == 0
    assert main(["export", str(study.root), "--trial", "99", "--to", str(tmp_path / "no")]) == 2
    assert "no trial 99" in capsys.readouterr().err


def test_trials_and_compare_show_the_study(study: StudyDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trials", str(study.root), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 5
    assert main(["trials", str(study.root)]) == 0
    assert main(["compare", str(study.root), "1", "2"]) == 0
    assert "perplexity" in capsys.readouterr().out


def test_run_front_export_and_verify_answer_with_json(
    study: StudyDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = Status.model_validate_json((study.root.parent / "status.json").read_text())
    assert (status.state, sum(status.trials.values())) == ("ended", 4)
    assert status.best == str(study.best_path)
    assert main(["front", str(study.root), "--json"]) == 0
    front = Front.model_validate_json(capsys.readouterr().out)
    assert status.selected in [member.trial for member in front.members]
    assert main(["export", str(study.root), "--to", str(tmp_path / "model"), "--json"]) == 0
    made = MadeFolder.model_validate_json(capsys.readouterr().out)
    assert (made.path, made.trial) == (str(tmp_path / "model"), status.selected)
    assert main(["verify", made.path, "--json"]) == 0
    verified = Verification.model_validate_json(capsys.readouterr().out)
    assert verified.nats_per_token == pytest.approx(verified.nats_per_token_at_export, abs=1e-4)
    assert verified.against is None


def test_a_study_goes_on_where_it_ended(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_config(tmp_path, tiny_llama)
    out = ["--out", str(tmp_path / "study")]
    assert main(["run", str(config), *out, "--trials", "2"]) == 0
    first = [record.recipe_key for record in StudyDir.open(tmp_path / "study").trials()]
    assert main(["run", str(config), *out, "--trials", "3"]) == 0
    keys = [record.recipe_key for record in StudyDir.open(tmp_path / "study").trials()]
    assert keys[: len(first)] == first
    assert len(keys) == 4


def test_another_study_in_the_folder_is_refused(
    study: StudyDir, tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, tiny_llama, seed=1)
    assert main(["run", str(config), "--out", str(study.root)]) == 2
    assert "another evaluation, seed" in capsys.readouterr().err


def test_no_feasible_candidate_exits_3_and_shows_the_nearest_misses(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    select = {"where": ["model_bytes <= 10B"]}
    config = write_config(tmp_path, tiny_llama, stop={"trials": 1}, select=select)
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 3
    assert "Nearest misses" in capsys.readouterr().err
    folder = StudyDir.open(tmp_path / "study")
    assert folder.outcome().trial is None
    assert folder.report_path.is_file()
    assert not folder.best_path.exists()


def test_a_broken_size_constraint_ends_a_candidate_before_it_runs(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_config(tmp_path, tiny_llama, stop={"trials": 1}, constraints=["model_bytes <= 10B"])
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 3
    record = StudyDir.open(tmp_path / "study").trials()[1]
    assert record.state == "infeasible"
    assert "model_bytes" in record.reason
    assert "latency" not in record.phases
    stored = optuna.load_study(study_name="olivine", storage=f"sqlite:///{tmp_path / 'study' / 'study.db'}")
    assert stored.trials[1].state == optuna.trial.TrialState.PRUNED
    assert max(stored.trials[1].constraints.values()) > 0


def test_a_missing_model_is_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write_config(tmp_path, tmp_path / "nothing")
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    assert "There is no file, folder or demo" in capsys.readouterr().err


def test_running_twice_at_once_is_refused(
    study: StudyDir, tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    config = write_config(tmp_path, tiny_llama)
    (tmp_path / "study").mkdir()
    with (tmp_path / "study" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 2
    assert "another process" in capsys.readouterr().err


def test_a_study_of_gptq_calibrates_on_text_it_does_not_score_and_rebuilds_the_same_bytes(
    tmp_path: Path, tiny_llama: Path
) -> None:
    space = {"precision": "int4", "algorithm": "gptq", "block_size": [16, 32]}
    calibration = {"windows": 3, "window_tokens": 40}
    config = write_config(tmp_path, tiny_llama, space=space, calibration=calibration, stop={"trials": 2})
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 0
    folder = StudyDir.open(tmp_path / "study")
    assert [record.state for record in folder.trials()] == ["complete"] * 3
    manifest = json.loads((folder.best_path / "olivine.json").read_text())
    key = manifest["calibration"].pop("key")
    about = {"text": "text.txt", "split": "calibrate", "seed": 0, "windows": 3, "window_tokens": 40, "own": 0.5}
    assert manifest["calibration"] == about
    request = json.loads((folder.root / "requests" / "0001.request.json").read_text())
    assert request["calibration"] == key
    assert json.loads((folder.root / "requests" / "0000.request.json").read_text())["calibration"] is None

    words = manifest["rebuild"].replace("DIR", str(tmp_path / "again")).split()
    assert main(words[1:]) == 0
    again = json.loads((tmp_path / "again" / "olivine.json").read_text())
    assert again["files"] == manifest["files"]
    assert again["calibration"]["key"] == key
    assert again["rebuild"] == manifest["rebuild"]
    assert main(["export", str(folder.root), "--to", str(tmp_path / "exported")]) == 0
    exported = json.loads((tmp_path / "exported" / "olivine.json").read_text())
    assert exported["files"] == manifest["files"]
    assert exported["calibration"]["key"] == key


def test_a_study_that_was_stopped_within_its_base_starts_anew(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_config(tmp_path, tiny_llama, stop={"trials": 1})
    out = tmp_path / "study"
    out.mkdir()
    storage = f"sqlite:///{out / 'study.db'}"
    optuna.create_study(study_name="olivine", storage=storage, directions=["minimize", "minimize"]).ask()
    assert main(["run", str(config), "--out", str(out)]) == 0
    stored = optuna.load_study(study_name="olivine", storage=storage)
    assert [trial.state.name for trial in stored.trials] == ["COMPLETE", "COMPLETE"]
    assert [record.number for record in StudyDir.open(out).trials()] == [0, 1]


def test_a_trial_whose_record_was_written_but_not_told_is_told_on_resume(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_config(tmp_path, tiny_llama, stop={"trials": 1})
    out = tmp_path / "study"
    assert main(["run", str(config), "--out", str(out)]) == 0
    storage = f"sqlite:///{out / 'study.db'}"
    lost = optuna.load_study(study_name="olivine", storage=storage).ask().number
    record = json.loads((out / "trials" / "0001.json").read_text())
    record |= {"number": lost, "recipe_key": "told-late"}
    (out / "trials" / f"{lost:04d}.json").write_text(json.dumps(record))

    assert main(["run", str(config), "--out", str(out)]) == 0
    told = optuna.load_study(study_name="olivine", storage=storage).trials[lost]
    assert told.state == optuna.trial.TrialState.COMPLETE
    assert told.user_attrs["recipe_key"] == "told-late"


def test_a_slow_kernel_is_not_proposed_but_measured_where_a_person_asked(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The masks are those that the study's first process wrote."""
    folder = StudyDir(tmp_path / "study")
    folder.root.mkdir()
    masks = Masks({Kernel(bits, 16, 4, "float"): f"int{bits} blocks of 16 are slow here" for bits in (4, 8)})
    masks.write(folder.kernels_path)
    space = {"precision": ["int8", "int4"], "block_size": [16, 32]}
    enqueue = [{"precision": "int8", "block_size": 16}]
    config = write_config(tmp_path, tiny_llama, space=space, enqueue=enqueue, kernel_probe=True, stop={"trials": 9})
    assert main(["run", str(config), "--out", str(folder.root)]) == 0
    assert "not proposed: int4 blocks of 16 are slow here" in capsys.readouterr().out
    measured = {(record.params["precision"], record.params.get("block_size")) for record in folder.trials()[1:]}
    assert measured == {("int8", 16), ("int8", 32), ("int4", 32)}
    assert "Kernels that were not proposed" in folder.report_path.read_text()


def test_kernels_are_probed_once_and_their_times_kept_in_the_study(tmp_path: Path, tiny_llama: Path) -> None:
    config = write_config(tmp_path, tiny_llama, kernel_probe=True, stop={"trials": 1})
    assert main(["run", str(config), "--out", str(tmp_path / "study")]) == 0
    folder = StudyDir.open(tmp_path / "study")
    times = Masks.read(folder.kernels_path).times
    assert times is not None
    assert {kernel.bits for kernel in times.kernels} == {0, 4, 8}
    before = folder.kernels_path.stat().st_mtime_ns
    assert main(["run", str(config), "--out", str(folder.root), "--trials", "2"]) == 0
    assert folder.kernels_path.stat().st_mtime_ns == before
