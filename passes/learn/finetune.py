"""Fine-tuning: LoRA on a checkpoint by transformers' Trainer and peft, merged into one of the same form or kept beside.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685). Training runs in float32;
the merged weights are saved in the type that the checkpoint had, and the loss after is that of the saved weights.
Needs the extra ``olivine[finetune]``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from olivine.passes.errors import BuildFailed, UsageError
from olivine.passes.sources import checkpoint
from olivine.passes.store.atomic_files import write_atomic
from olivine.passes.store.safetensors_stream import INDEX

#: File that the Trainer writes last into a checkpoint of its own: a checkpoint without it was cut off.
_STATE = "trainer_state.json"
_BEFORE = "before.json"
#: Checkpoints and reports of progress over one training.
_SAVES, _REPORTS = 10, 20
_IGNORED = -100

#: A piece of text: its token ids.
Piece = Sequence[int]


@dataclass(frozen=True)
class Training:
    """Settings of a training.

    Attributes:
        max_steps: optimizer steps.
        batch_size: pieces of text in a step.
        learning_rate: the highest; it rises over the first twentieth and falls to 0 in a line.
        rank: of LoRA's matrices, on every linear layer but the head; alpha is twice that.
        seed: of LoRA's start and the order of pieces.
    """

    max_steps: int = 100
    batch_size: int = 4
    learning_rate: float = 2e-4
    rank: int = 16
    seed: int = 0


@dataclass(frozen=True)
class Tuned:
    """Result of a fine-tuning.

    Attributes:
        before: [pieces] negative log-likelihood of each held-out piece under the checkpoint as it was, in nats.
        after: [pieces] the same under the merged checkpoint, or with the adapter, as it was saved.
        losses: (step, mean training loss since the last report in nats a token).
        resumed: the step that it went on from; 0 for a training from the start.
        trained_weights: number of LoRA's weights.
    """

    before: tuple[float, ...]
    after: tuple[float, ...]
    losses: tuple[tuple[int, float], ...]
    resumed: int
    trained_weights: int


@dataclass(frozen=True)
class Finetune:
    """A fine-tuning of one checkpoint.

    Attributes:
        training: its settings.
        trust_remote_code: code that the checkpoint brings may run.
        report: called with the step and the training loss, every twentieth of the steps.
        say: called with a sentence where something is about to take long.
        adapter_of: name of the model, where LoRA's matrices are kept as an adapter of it; None to merge them.
    """

    training: Training = Training()
    trust_remote_code: bool = False
    report: Callable[[int, float], None] = field(default=lambda step, loss: None)
    say: Callable[[str], None] = field(default=lambda sentence: None)
    adapter_of: str | None = None

    def apply(self, source: Path, train: Sequence[Piece], held_out: Sequence[Piece], work: Path, to: Path) -> Tuned:
        """Train on ``train`` and write the merged checkpoint, or the adapter, to the empty folder ``to``.

        Args:
            source: the checkpoint; not written to.
            train: pieces of at least two tokens.
            held_out: pieces that are not trained on.
            work: folder of checkpoints, from whose last one an interrupted training goes on.
            to: folder of the merged checkpoint, which has weights, and config and tokenizer as ``source`` has them; or
                of the adapter.

        Raises:
            BuildFailed: when the loss is not finite.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of libraries about each other
            return self._apply(source, train, held_out, work, to)

    def _apply(self, source: Path, train: Sequence[Piece], held_out: Sequence[Piece], work: Path, to: Path) -> Tuned:
        import torch
        from transformers import AutoModelForCausalLM, set_seed

        set_seed(self.training.seed)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, trust_remote_code=self.trust_remote_code
        )
        model.config.use_cache = False
        adapted = self._adapted(model)
        if not (work / _BEFORE).is_file():
            self.say(f"loss of {len(held_out)} held-out pieces before")
            write_atomic(work / _BEFORE, json.dumps(losses(adapted, held_out)))
        before = json.loads((work / _BEFORE).read_text(encoding="utf-8"))
        resumed, reported = self._train(adapted, train, work)
        trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        if self.adapter_of is None:
            tuned = self._merge(adapted, source, to)
        else:
            tuned = _keep_adapter(adapted, self.adapter_of, to)
        self.say("loss of the held-out pieces after")
        after = losses(tuned, held_out)
        if not all(map(math.isfinite, after)):
            raise BuildFailed("the fine-tuned model's loss is not finite: give a lower --learning-rate")
        return Tuned(tuple(before), tuple(after), tuple(reported), resumed, trained)

    def _merge(self, adapted: Any, source: Path, to: Path) -> Any:
        """Write the merged checkpoint, and give its model as it was saved, in float32."""
        import torch

        merged = adapted.merge_and_unload().to("cpu")
        merged.config.use_cache = True
        config = checkpoint.read_config(source / "config.json", str(source))
        merged.to(getattr(torch, checkpoint.float_type(config))).save_pretrained(to)
        for name in checkpoint.taken((p.name for p in source.iterdir()), self.trust_remote_code):
            if not name.endswith(".safetensors") and name != INDEX:
                shutil.copyfile(source / name, to / name)
        return merged.float()

    def _adapted(self, model: Any) -> Any:
        from peft import LoraConfig, get_peft_model

        rank = self.training.rank
        config = LoraConfig(
            task_type="CAUSAL_LM", r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear"
        )
        return get_peft_model(model, config)

    def _train(self, model: Any, train: Sequence[Piece], work: Path) -> tuple[int, list[tuple[int, float]]]:
        """Train in place; returns the step it went on from, and (step, loss) as reported."""
        import torch
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        report = self.report

        class Reporter(TrainerCallback):  # type: ignore[misc] # transformers has no types
            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    report(state.global_step, float(logs["loss"]))

        steps = self.training.max_steps
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(work),
                max_steps=steps,
                per_device_train_batch_size=self.training.batch_size,
                learning_rate=self.training.learning_rate,
                lr_scheduler_type="linear",
                warmup_steps=max(1, steps // 20),
                save_strategy="steps",
                save_steps=max(1, steps // _SAVES),
                save_total_limit=2,
                logging_steps=max(1, steps // _REPORTS),
                report_to="none",
                disable_tqdm=True,
                log_level="error",
                remove_unused_columns=False,
                use_cpu=not torch.cuda.is_available(),
                dataloader_pin_memory=torch.cuda.is_available(),
                seed=self.training.seed,
            ),
            train_dataset=[{"input_ids": list(piece)} for piece in train],
            data_collator=padded,
            callbacks=[Reporter()],
        )
        trainer.remove_callback(PrinterCallback)
        last = last_checkpoint(work)
        trainer.train(resume_from_checkpoint=None if last is None else str(last))
        logs = [log for log in trainer.state.log_history if "loss" in log]
        reported = [(int(log["step"]), float(log["loss"])) for log in logs]
        if not all(math.isfinite(loss) for _, loss in reported):
            raise BuildFailed("the training loss is not finite: give a lower --learning-rate")
        return 0 if last is None else step_of(last), reported


def _keep_adapter(adapted: Any, model: str, to: Path) -> Any:
    """Write LoRA's matrices in float32 as PEFT saves them, and give the model that has them."""
    (config,) = adapted.peft_config.values()
    config.base_model_name_or_path = model  # not its place in the cache
    adapted.to("cpu").save_pretrained(to)
    (to / "README.md").unlink(missing_ok=True)  # a form that nobody has filled in
    return adapted


def losses(model: Any, pieces: Sequence[Piece]) -> list[float]:
    """[pieces] negative log-likelihood in nats of all tokens but each piece's first."""
    import torch

    model.eval()
    nats = []
    with torch.no_grad():
        for piece in pieces:
            ids = torch.tensor([list(piece)], device=model.device)
            logits = model(input_ids=ids).logits[0, :-1].float()
            nats.append(float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")))
    return nats


def padded(batch: Sequence[dict[str, list[int]]]) -> dict[str, Any]:
    """Pieces of different lengths as one batch; what fills them up is neither attended to nor scored."""
    import torch

    pieces = [piece["input_ids"] for piece in batch]
    longest = max(map(len, pieces))
    rows = [(ids, longest - len(ids)) for ids in pieces]
    return {
        "input_ids": torch.tensor([ids + [0] * fill for ids, fill in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * fill for ids, fill in rows]),
        "labels": torch.tensor([ids + [_IGNORED] * fill for ids, fill in rows]),
    }


def last_checkpoint(work: Path) -> Path | None:
    """The last checkpoint that was written to its end; None where there is none."""
    whole = [path for path in work.glob("checkpoint-*") if (path / _STATE).is_file()]
    return max(whole, key=step_of, default=None)


def step_of(path: Path) -> int:
    """The step of a checkpoint folder."""
    return int(path.name.rpartition("-")[2])


def require_package() -> None:
    """Refuse to fine-tune where peft is not installed.

    Raises:
        UsageError: naming the extra that brings it.
    """
    if importlib.util.find_spec("peft") is None:
        raise UsageError(
            "Fine-tuning needs the package peft, which is not installed here: pip install 'olivine[finetune]'"
        )
