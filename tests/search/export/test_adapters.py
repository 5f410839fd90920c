"""A folder with adapters: built, verified, talked to and timed, as a person does it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from tiny_lora import tiny_lora

from olivine.evaluators.bench import bench_folders
from olivine.evaluators.latency.decoder import PairedDecoderLatency
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.scenario.deployed import run_folder
from olivine.passes.adapters.adapter_file import adapter_path
from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.export.chat import chat
from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.command import answer_prompt, serve_folder
from olivine.search.export.serving.errors import Unusable
from olivine.search.export.serving.model import Model, Piece
from olivine.search.export.verify import VerifyFailed, verify_folder

pytestmark = pytest.mark.usefixtures("olivine_cache")


@pytest.fixture(scope="module")
def home(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters, and an int4 folder ``out`` that has them as ``legal`` and ``short``; do not write into it."""
    home = tmp_path_factory.mktemp("adapters")
    legal = tiny_lora(home / "legal", tiny_llama)
    short = tiny_lora(home / "short", tiny_llama, ("q_proj", "v_proj"), rank=2, seed=1)
    adapters = ["--adapter", f"legal={legal}", "--adapter", f"short={short}"]
    assert main(["build", str(tiny_llama), "--to", str(home / "out"), "--set", "precision=int4", *adapters]) == 0
    return home


def answer(folder: Path, adapter: str | None) -> str:
    console = Console(file=io.StringIO(), width=120)
    chat(folder, "Where is the boat?", 12, console, adapter)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().rpartition("tokens: prompt")[0]


def test_the_manifest_and_the_card_tell_of_each_adapter(home: Path) -> None:
    manifest = json.loads((home / "out" / "olivine.json").read_text())
    legal, short = manifest["adapters"]["legal"], manifest["adapters"]["short"]
    assert (legal["file"], legal["ranks"]) == ("adapters/legal.onnx_adapter", [4])
    assert (short["projections"], short["ranks"]) == (["q_proj", "v_proj"], [2])
    assert short["file"] in manifest["files"], "its hash too"
    assert legal["nll"] != manifest["check"]["nll"] != short["nll"] != legal["nll"]
    assert legal["agreement"]["kl_divergence"] < 3 * legal["agreement"]["base_kl_divergence"]
    assert manifest["rebuild"].endswith("--adapter legal=DIR --adapter short=DIR")
    card = (home / "out" / "README.md").read_text()
    assert "| short | q_proj, v_proj | 2 |" in card
    assert 'generator.set_active_adapter(adapters, "legal")' in card


def test_the_lines_of_the_card_run_an_adapter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = (home / "out" / "README.md").read_text()
    load, adapt = (block.partition("```")[0] for block in card.split("```python\n")[1:3])
    monkeypatch.chdir(home / "out")
    namespace: dict[str, object] = {}
    exec(load.partition("generator =")[0] + adapt, namespace)
    assert namespace["generator"] is not None


def test_verify_runs_each_adapter_and_notices_one_that_changed(home: Path, tmp_path: Path) -> None:
    verified = verify_folder(home / "out")
    manifest = json.loads((home / "out" / "olivine.json").read_text())
    expected = {name: about["nll"] for name, about in manifest["adapters"].items()}
    assert verified.adapters == pytest.approx(expected, abs=1e-3)  # type: ignore[union-attr]
    swapped = shutil.copytree(home / "out", tmp_path / "out")
    shutil.copyfile(adapter_path(swapped, "short"), adapter_path(swapped, "legal"))
    with pytest.raises(VerifyFailed, match=r"adapters/legal\.onnx_adapter was changed"):
        verify_folder(swapped)
    manifest["adapters"]["legal"]["nll"] += 1
    (tmp_path / "out" / "olivine.json").write_text(json.dumps(manifest))
    shutil.copyfile(adapter_path(home / "out", "legal"), adapter_path(swapped, "legal"))
    with pytest.raises(VerifyFailed, match="predicts the check text with adapter 'legal' at"):
        verify_folder(swapped)


def test_chat_answers_by_the_adapter_that_is_named(home: Path) -> None:
    answers = [answer(home / "out", name) for name in (None, "legal", "short")]
    assert len(set(answers)) == 3
    with pytest.raises(UsageError, match=r"has no adapter 'shirt'\. Did you mean 'short'\? Available: legal, short"):
        answer(home / "out", "shirt")


def said(model: Model, adapter: str | None) -> str:
    request = ChatRequest(({"role": "user", "content": "Where is the boat?"},), model=adapter, max_new_tokens=12)
    return "".join(step.text for step in model.answer(request) if isinstance(step, Piece))


def test_a_server_answers_by_the_adapter_that_a_request_names_as_its_model(home: Path) -> None:
    model = Model(home / "out", at_once=4, max_new_tokens=12)
    assert model.adapters == ("legal", "short")
    first = [said(model, name) for name in (None, "legal", "short", "tiny")]
    assert first[0] == first[3], "the model by its own name"
    assert len(set(first)) == 3
    assert [said(model, name) for name in ("short", None, "legal")] == [first[2], first[0], first[1]], "kept chats too"


def test_the_packaged_script_knows_its_adapters(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer_prompt(home / "out", "Where is the boat?", 12, "short")
    short = capsys.readouterr().out
    answer_prompt(home / "out", "Where is the boat?", 12)
    assert capsys.readouterr().out != short
    with pytest.raises(Unusable, match="no adapter 'other' here; this folder has legal, short"):
        answer_prompt(home / "out", "Where is the boat?", 12, "other")


def test_a_model_may_not_have_the_name_of_an_adapter(home: Path) -> None:
    from argparse import Namespace

    options = Namespace(at_once=1, max_new_tokens=4, name="legal", host="127.0.0.1")
    with pytest.raises(Unusable, match="the model and one of its adapters would both be 'legal'"):
        serve_folder(home / "out", 0, options)


def test_bench_times_a_folder_with_an_adapter_beside_it_without(home: Path) -> None:
    latency = PairedDecoderLatency(16, 4, 0.5, 1.0, max_rounds=8)
    results = bench_folders([home / "out"], None, latency, adapters=["short"])
    assert list(results) == [str(home / "out"), f"{home / 'out'} + short"]
    metrics = {m.metric for m in results[f"{home / 'out'} + short"]}
    assert {"ttft_ms", "tpot_speedup", "peak_rss_bytes"} <= metrics
    with pytest.raises(UsageError, match="has no adapter 'none'"):
        bench_folders([home / "out"], None, latency, adapters=["none"])


def test_a_folder_runs_as_deployed_with_an_adapter(home: Path) -> None:
    file = adapter_path(home / "out", "legal")
    with ModelProcess.open(home / "out", adapter=file) as process:
        assert run_folder(process, [[5, 6, 7]], 3).peak_rss_bytes > 0


def test_a_plain_session_says_that_it_runs_no_adapter(home: Path) -> None:
    from olivine.evaluators.process.failure import ModelProcessFailed

    with pytest.raises(ModelProcessFailed, match="adapters run in ONNX Runtime GenAI, not in a plain session"):
        ModelProcess.open(home / "out", loop="session", adapter=adapter_path(home / "out", "legal"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["legal=A", "legal=B"], "the name 'legal' is given twice"),
        (["legal"], "give it as NAME=DIR"),
        (["legal="], "give it as NAME=DIR"),
        (["../up=A"], "a name has letters, digits"),
        (["legal=/nowhere"], "there is no such folder"),
    ],
)
def test_adapters_that_are_none_are_told_before_anything_is_built(
    words: list[str], said: str, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [argument for word in words for argument in ("--adapter", word)]
    assert main(["build", str(tiny_llama), "--to", str(tmp_path / "out"), *named]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_adapters_for_a_provider_that_runs_none_are_refused_before_anything_is_built(
    tiny_llama: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from olivine.search.study import export_candidate

    monkeypatch.setattr(export_candidate, "source_artifact", None)  # called, it would fail
    words = ["--set", "provider=openvino", "--adapter", f"a={home / 'legal'}"]
    assert main(["build", str(tiny_llama), "--to", str(tmp_path / "out"), *words]) == 2
    assert "which can not run the provider 'openvino'. Providers that fit: cpu, cuda" in capsys.readouterr().err


def test_an_adapter_that_names_another_base_and_one_that_was_not_compared_are_told_as_such(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from olivine.passes.adapters.adapter_set import AdapterSet

    monkeypatch.setattr(AdapterSet, "check", lambda *_: {})  # as on a CPU without kernels for the graph
    base = "base_model_name_or_path"
    other = tiny_lora(tmp_path / "other", tiny_llama, ("q_proj",), **{base: "Other/Llama[1]"})
    own = tiny_lora(tmp_path / "own", tiny_llama, ("q_proj",), **{base: str(tiny_llama)})
    words = ["--adapter", f"other={other}", "--adapter", f"own={own}"]
    assert main(["build", str(tiny_llama), "--to", str(tmp_path / "out"), *words]) == 0
    said = " ".join(capsys.readouterr().out.split())
    sections = json.loads((tmp_path / "out" / "olivine.json").read_text())["adapters"]
    card = (tmp_path / "out" / "README.md").read_text()
    caution = "its adapter_config.json names the base model Other/Llama[1], and this is"
    assert f"adapter 'other': {caution}" in said
    assert said.count("names the base model") == 1
    assert said.count("not compared with its checkpoint") == 2
    assert [len(sections[name]["notes"]) for name in ("other", "own")] == [2, 1]
    assert sections["other"]["notes"][0].startswith(caution)
    assert "Adapter 'other': its adapter_config.json names the base model Other/Llama\\[1\\], and this is" in card
    assert "Adapter 'own': not compared with its checkpoint" in card
    assert "| own | q_proj | 4 | not compared | not compared |" in card


@pytest.mark.parametrize("kind", [None, "zip", "docker"])
def test_an_export_says_what_its_manifest_notes_of_adapters(
    kind: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from olivine.search.export.package import zip_folder
    from olivine.search.study import export_trial
    from olivine.search.study_dir import StudyDir

    to = tmp_path / ("out.zip" if kind == "zip" else "out")
    model = tmp_path / "made" if kind is None else tmp_path / "made" / "model"
    model.mkdir(parents=True)
    (model / "olivine.json").write_text(json.dumps({"adapters": {"a": {"notes": ["not compared"]}, "b": {}}}))

    def exported(*_: object) -> Path:
        return zip_folder(tmp_path / "made", to) or to if kind == "zip" else (tmp_path / "made").rename(to)

    monkeypatch.setattr(StudyDir, "open", lambda root: None)
    monkeypatch.setattr(export_trial, "package_trial" if kind else "export_trial", exported)
    package = ["--package", kind] if kind else []
    assert main(["export", "study", "--to", str(to), "--adapter", "a=A", *package]) == 0
    assert "adapter 'a': not compared" in capsys.readouterr().out


def test_a_graph_takes_no_adapters(
    tiny_onnx: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["build", str(tiny_onnx), "--to", str(tmp_path / "out"), "--adapter", f"a={home / 'legal'}"]
    assert main(arguments) == 2
    assert "is a graph; adapters are fitted to the checkpoint" in capsys.readouterr().err
