"""``olivine finetune`` on a tiny random checkpoint: it learns, goes on after a stop, and leaves what a study takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.errors import UsageError
from olivine.passes.learn.finetune import Finetune, Training, last_checkpoint
from olivine.passes.sources.source import resolve
from olivine.passes.sources.weights.safetensors_header import read_header
from olivine.search.cli.main import main
from olivine.search.planning.finetune import FILE, FinetuneRequest, finetune

pytestmark = [pytest.mark.usefixtures("olivine_cache"), pytest.mark.finetune]
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions with answers that follow from them."""
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    rows = [{"instruction": f"Say {word} {n}", "response": f"{word} {n}"} for n in range(10) for word in ("a", "boat")]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def request(model: Path, data: Path, steps: int = 12, **more: Any) -> FinetuneRequest:
    training = Training(max_steps=steps, batch_size=4, learning_rate=5e-3, rank=4)
    return FinetuneRequest(
        str(model), str(data), "### Question: {instruction}\\n### Answer: {response}", training, **more
    )


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def test_the_command_lowers_the_held_out_loss_and_leaves_a_checkpoint(
    tiny_llama: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    to = tmp_path / "tuned"
    template = "### Question: {instruction}\\n### Answer: {response}"
    arguments = ["finetune", str(tiny_llama), "--data", str(data), "--text-template", template, "--to", str(to)]
    more = ["--max-steps", "12", "--learning-rate", "5e-3", "--rank", "4"]
    assert main([*arguments, *more]) == 0
    said = capsys.readouterr().out
    assert "18 texts" in said
    assert "step 12/12: loss" in said
    found = json.loads((to / FILE).read_text())
    loss = found["held_out_loss"]
    assert loss["difference"]["high"] < 0
    assert loss["after"]["value"] == pytest.approx(loss["before"]["value"] + loss["difference"]["value"])
    assert found["training_loss"][-1][0] == 12
    assert f"{loss['after']['value']:.3f} after" in said
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"], "nothing is left beside it"

    source = resolve(str(to))
    assert source.kind == "checkpoint"
    assert (to / "config.json").read_bytes() == (tiny_llama / "config.json").read_bytes()
    assert (to / "tokenizer.json").read_bytes() == (tiny_llama / "tokenizer.json").read_bytes()
    before, after = weights(tiny_llama), weights(to)
    assert set(before) == set(after)
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if "proj" in name}
    (tmp_path / "taken").mkdir()
    source.materialize(tmp_path / "taken")
    assert not (tmp_path / "taken" / FILE).exists(), "it is no part of the model"

    assert main([*arguments, *more]) == 2
    assert "exists already" in capsys.readouterr().err


def test_an_interrupted_training_goes_on_and_ends_with_the_same_weights(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    once, twice = tmp_path / "once", tmp_path / "twice"
    finetune(request(tiny_llama, data), once, False, QUIET)
    plain = Finetune.apply

    def stopped(self: Finetune, *arguments: Any) -> Any:
        def told(step: int, loss: float) -> None:
            if step == 7:
                raise KeyboardInterrupt

        return plain(Finetune(self.training, self.trust_remote_code, told), *arguments)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Finetune, "apply", stopped)
        finetune(request(tiny_llama, data), twice, False, QUIET)
    work = tmp_path / "twice-finetune"
    assert last_checkpoint(work) == work / "checkpoint-6"
    (work / "checkpoint-9").mkdir()  # cut off while it was written
    assert last_checkpoint(work) == work / "checkpoint-6"
    assert not twice.exists()
    with pytest.raises(UsageError, match="interrupted fine-tuning with another training"):
        finetune(request(tiny_llama, data, steps=13), twice, False, QUIET)
    finetune(request(tiny_llama, data), twice, False, QUIET)
    assert not work.exists()
    first, second = weights(once), weights(twice)
    assert all(first[name].equal(second[name]) for name in first)
    losses = [json.loads((folder / FILE).read_text())["held_out_loss"] for folder in (once, twice)]
    assert losses[0] == losses[1]


def test_the_type_of_the_weights_stays(make_tiny_checkpoint: Callable[..., Path], data: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    import torch
    from transformers import AutoModelForCausalLM

    plain = make_tiny_checkpoint(tmp_path / "plain", "qwen2")
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(plain, dtype=torch.bfloat16).save_pretrained(half)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (half / name).write_bytes((plain / name).read_bytes())
    finetune(request(half, data, steps=2), tmp_path / "tuned", False, QUIET)
    (file,) = (tmp_path / "tuned").glob("*.safetensors")
    assert {entry["dtype"] for name, entry in read_header(file).items() if name != "__metadata__"} == {"BF16"}


def test_mistakes_are_told_before_anything_is_trained(
    tiny_llama: Path, tiny_onnx: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "peft", None)
        with pytest.raises(UsageError, match=r"pip install 'olivine\[finetune\]'"):
            finetune(request(tiny_llama, data), to, False, QUIET)
    pytest.importorskip("peft")
    with pytest.raises(UsageError, match="is an ONNX graph"):
        finetune(request(tiny_onnx, data), to, False, QUIET)
    lacking = FinetuneRequest(str(tiny_llama), str(data), "{question}", Training())
    with pytest.raises(UsageError, match=r"no column 'question'\..*Available: instruction, response"):
        finetune(lacking, to, False, QUIET)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match="was not made by 'olivine finetune'"):
        finetune(request(tiny_llama, data), tmp_path / "mine", True, QUIET)
    assert not to.exists()
    assert not (tmp_path / "to-finetune").exists()


def test_an_adapter_is_trained_for_exports_and_does_what_the_merged_checkpoint_does(
    tiny_llama: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("peft")
    finetune(request(tiny_llama, data, adapter=True), tmp_path / "lora", False, QUIET)
    finetune(request(tiny_llama, data), tmp_path / "merged", False, QUIET)
    names = sorted(path.name for path in (tmp_path / "lora").iterdir())
    assert names == ["adapter_config.json", "adapter_model.safetensors", FILE]
    config = json.loads((tmp_path / "lora" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(tiny_llama)
    found = [json.loads((tmp_path / name / FILE).read_text())["held_out_loss"]["after"] for name in ("lora", "merged")]
    assert found[0]["value"] == pytest.approx(found[1]["value"], abs=1e-4)
    assert found[0]["value"] < json.loads((tmp_path / "lora" / FILE).read_text())["held_out_loss"]["before"]["value"]

    (adapter,) = AdapterSet.read(tiny_llama, {"tuned": tmp_path / "lora"}).adapters
    before, after = weights(tiny_llama), weights(tmp_path / "merged")
    for module, factors in adapter.factors.items():
        added = (after[f"{module}.weight"] - before[f"{module}.weight"]).numpy()
        assert abs((factors.down @ factors.up).T - added).max() < 1e-5
