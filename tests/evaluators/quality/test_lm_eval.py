"""lm-eval's tasks over a model folder: the likelihoods and texts are those of lm-eval's own Hugging Face model."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from task_files import CHOICE, PROSE, WRITING, write_tasks

from olivine.evaluators.measurement import Measurement
from olivine.evaluators.process.client import ModelProcess
from olivine.evaluators.quality.lm_eval import LoadedTasks, Tasks, difference
from olivine.passes.errors import UsageError
from olivine.passes.graph import save_wiring
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.cli.main import main

pytest.importorskip("lm_eval")
pytestmark = pytest.mark.lm_eval

#: Pairs whose pieces make and break tokens at their seam, one of them without a context.
PAIRS = [
    ("The bank of the river was", " green"),
    ("The bank of the river was", " wide"),
    ("The bank of the river was", " green and wide"),
    ("A model is a thing that is wrong ", "in a useful way"),
    ("", "Ministers met on Monday"),
    ("price " * 200, "of bread"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tasks(tmp_path_factory.mktemp("tasks") / "files")


@pytest.fixture(scope="module")
def loaded(folder: Path) -> LoadedTasks:
    return Tasks((CHOICE, PROSE, WRITING), include_path=folder).load()


@pytest.fixture(scope="module")
def huggingface(tiny_llama: Path) -> Any:
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(tiny_llama), device="cpu", dtype="float32", batch_size=1)


@pytest.fixture(scope="module", params=["genai", "session"])
def process(request: pytest.FixtureRequest, tiny_onnx: Path) -> Iterator[ModelProcess]:
    with ModelProcess.open(tiny_onnx, loop=request.param) as opened:
        yield opened


def requests_of(kind: str, *arguments: tuple[Any, ...]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=each, idx=0) for each in arguments]


def model_of(process: ModelProcess, folder: Path) -> Any:
    from olivine.evaluators.quality.lm_eval_model import FolderModel

    return FolderModel(process, folder)


def test_likelihoods_are_those_of_lm_evals_hugging_face_model(
    process: ModelProcess, tiny_onnx: Path, huggingface: Any
) -> None:
    measured = model_of(process, tiny_onnx).loglikelihood(requests_of("loglikelihood", *PAIRS))
    expected = huggingface.loglikelihood(requests_of("loglikelihood", *PAIRS), disable_tqdm=True)
    assert [logp for logp, _ in measured] == pytest.approx([logp for logp, _ in expected], abs=1e-3)
    assert [greedy for _, greedy in measured] == [greedy for _, greedy in expected]


def test_rolling_likelihoods_are_too_also_of_texts_longer_than_the_context(
    process: ModelProcess, tiny_onnx: Path, huggingface: Any
) -> None:
    texts = [("The boat lay there.",), ("The bank of the river was green. " * 40,)]
    measured = model_of(process, tiny_onnx).loglikelihood_rolling(requests_of("loglikelihood_rolling", *texts))
    expected = huggingface.loglikelihood_rolling(requests_of("loglikelihood_rolling", *texts), disable_tqdm=True)
    assert measured == pytest.approx(expected, abs=1e-3)


def test_written_text_is_too_up_to_the_first_stop(process: ModelProcess, tiny_onnx: Path, huggingface: Any) -> None:
    model = model_of(process, tiny_onnx)
    free = {"until": [], "max_gen_toks": 40, "do_sample": False}
    (whole,) = model.generate_until(requests_of("generate_until", ("The boat", free)))
    (same,) = huggingface.generate_until(requests_of("generate_until", ("The boat", free)), disable_tqdm=True)
    assert whole == same
    assert whole
    stop = whole[len(whole) // 2]
    (cut,) = model.generate_until(requests_of("generate_until", ("The boat", free | {"until": [stop]})))
    assert cut == whole.split(stop)[0]


def test_endings_of_one_prompt_share_a_run(tiny_onnx: Path, process: ModelProcess) -> None:
    from olivine.evaluators.quality.lm_eval_model import FolderModel

    runs: list[int] = []
    FolderModel(process, tiny_onnx, runs.append).loglikelihood(
        requests_of("loglikelihood", ("A", "b"), ("A", "c"), ("D", "b"))
    )
    assert runs == [2, 3]


def test_tasks_give_what_lm_eval_gives_with_intervals(
    process: ModelProcess, tiny_onnx: Path, loaded: LoadedTasks, huggingface: Any
) -> None:
    from lm_eval.evaluator import evaluate

    measured = {m.metric: m for m in loaded.evaluate(process, tiny_onnx)}
    expected = evaluate(lm=huggingface, task_dict=dict(loaded.groups), bootstrap_iters=0)["results"]
    assert set(measured) == {f"{CHOICE}.acc", f"{PROSE}.word_perplexity", f"{WRITING}.exact_match"}
    accuracy, perplexity = measured[f"{CHOICE}.acc"], measured[f"{PROSE}.word_perplexity"]
    assert accuracy.value == expected[CHOICE]["acc,none"]
    assert perplexity.value == pytest.approx(expected[PROSE]["word_perplexity,none"], rel=1e-3)
    assert perplexity.low < perplexity.value < perplexity.high
    assert len(accuracy.samples) == accuracy.protocol["questions"] == 8
    assert set(accuracy.samples) <= {0.0, 1.0}
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.protocol["lm_eval"]


def test_the_command_measures_the_twin_of_a_pruned_model_beside_a_reference(
    tiny_onnx: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pruned = tmp_path / "pruned"
    model = ir.load(tiny_onnx / "model.onnx")
    PruneHead().rewire(model)
    save_wiring(model, tiny_onnx, "model.onnx", pruned)
    answer = tmp_path / "found.json"
    arguments = ["eval", str(pruned), "--reference", str(tiny_onnx), "--tasks", CHOICE, "--limit", "3"]
    assert main([*arguments, "--include-path", str(folder), "--json", str(answer)]) == 0
    measured = json.loads(answer.read_text())
    assert measured[str(pruned)] == measured[str(tiny_onnx)]
    printed = capsys.readouterr().out
    assert "the same on every question" in printed
    assert f"{CHOICE}.acc" in printed


def test_mistakes_are_told_with_what_fits(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.tasks import TaskManager

    few = partial(TaskManager, include_defaults=False)  # its own 14,000 tasks take seconds to index
    monkeypatch.setattr("lm_eval.tasks.TaskManager", few)
    with pytest.raises(UsageError, match=r"no task 'olivine_chioce' among its .* Did you mean 'olivine_choice'"):
        Tasks(("olivine_chioce",), include_path=folder).load()
    with pytest.raises(UsageError, match="there is no folder"):
        Tasks((CHOICE,), include_path=tmp_path / "nothing").load()


def test_a_task_that_samples_is_refused_before_a_model_loads(folder: Path, tmp_path: Path) -> None:
    changed = tmp_path / "files"
    changed.mkdir()
    text = (folder / f"{WRITING}.yaml").read_text().replace("do_sample: false", "do_sample: true, temperature: 0.8")
    (changed / "sampled.yaml").write_text(text.replace(WRITING, "olivine_sampled"))
    with pytest.raises(UsageError, match="'olivine_sampled' asks for sampled text"):
        Tasks(("olivine_sampled",), include_path=changed).load()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tiny_onnx: Path) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UsageError, match=r"pip install 'olivine\[lm-eval\]'"):
        Tasks((CHOICE,)).load()


def test_a_difference_is_taken_question_by_question() -> None:
    def of(*samples: float) -> Measurement:
        return Measurement("task.acc", "1", sum(samples) / len(samples), 0, 1, samples)

    measured = difference(of(1, 1, 0, 1), of(1, 0, 0, 1))
    assert measured is not None
    assert measured.value == 0.25
    assert difference(of(1, 0), of(1, 0, 0)) is None


@pytest.mark.parametrize("words", [["--limit", "3"], ["--include-path", "x"]])
def test_options_of_tasks_need_tasks(tiny_onnx: Path, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(tiny_onnx), *words]) == 2
    assert "belong to --tasks" in capsys.readouterr().err
