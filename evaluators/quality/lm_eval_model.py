"""A model folder behind lm-eval's model interface; lm-eval has to be installed to import this.

Text is treated here as lm-eval's own Hugging Face model treats it (special tokens, truncation, stop sequences),
so that a float export has the scores of its checkpoint; the model itself runs in a process. See
``lm_eval/models/huggingface.py`` of lm-eval 0.4.13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from olivine.evaluators.data.tokenizing import load_tokenizer
from olivine.evaluators.process.protocols import GeneratingProcess
from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.errors import UsageError
from olivine.passes.sources.json_file import read_json

#: (context and continuation as text, or None; token ids of the context; token ids of the continuation).
TokenRequest = tuple[tuple[str, str] | None, list[int], list[int]]


class FolderModel(TemplateLM):  # type: ignore[misc] # lm-eval has no types
    """An ONNX Runtime GenAI folder whose model is loaded in a process.

    Args:
        process: the loaded model; of its unpruned twin where its head is pruned.
        folder: what it was loaded from: brings the tokenizer and the length of the context.
        progress: called with the number of requests answered so far, after each run of the model.
    """

    def __init__(
        self, process: GeneratingProcess, folder: Path, progress: Callable[[int], None] = lambda answered: None
    ) -> None:
        super().__init__()
        self._process, self._progress = process, progress
        self._answered = 0
        self.tokenizer = load_tokenizer(folder)
        about = read_json(folder / GENAI_CONFIG)["model"]
        self.max_length = int(about["context_length"])
        ends = about.get("eos_token_id", 0)
        self._end = int(ends[0] if isinstance(ends, list) else ends)

    @property
    def eot_token_id(self) -> int:
        """The tokenizer's end of text; the model's where it has none."""
        own = self.tokenizer.eos_token_id
        return self._end if own is None else int(own)

    @property
    def prefix_token_id(self) -> int:
        """Token before a text that has no context."""
        own = self.tokenizer.bos_token_id
        return self.eot_token_id if own is None else int(own)

    @property
    def tokenizer_name(self) -> str:
        """Names lm-eval's cache of requests."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The conversation as the folder's own chat template writes it."""
        return str(
            self.tokenizer.apply_chat_template(
                chat_history,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                continue_final_message=not add_generation_prompt,
            )
        )

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids, with the tokenizer's special tokens unless the caller forbids them or has put them there."""
        if add_special_tokens is None and string.startswith(self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        options = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        ids: list[int] = self.tokenizer.encode(string, **options)
        return ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:
        """As lm-eval asks for it, without its progress bar."""
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(self, requests: Sequence[TokenRequest], **_: Any) -> list[tuple[float, bool]]:
        """Answers in the order of the requests; those that differ in their last token alone share a run."""
        answers: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        shared: dict[tuple[int, ...], list[int]] = {}
        for number, (_text, context, continuation) in enumerate(requests):
            if len(continuation) > self.max_length:
                raise UsageError(
                    f"A continuation of {len(continuation)} tokens is longer than the model's {self.max_length}: "
                    "this task does not fit the model"
                )
            if continuation:  # nothing at all is certain
                tokens = tuple((context + continuation)[-(self.max_length + 1) : -1])
                shared.setdefault(tokens, []).append(number)
        for tokens, numbers in shared.items():
            scores = self._process.loglikelihoods(tokens, [requests[number][2] for number in numbers])
            for number, logp, greedy in zip(numbers, scores.nats, scores.greedy, strict=True):
                answers[number] = (logp, greedy)
                if (text := requests[number][0]) is not None:
                    self.cache_hook.add_partial("loglikelihood", text, answers[number])
            self._count(len(numbers))
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Each text whole, in windows as long as the model's context that overlap by one token."""
        totals = []
        for (text,) in [request.args for request in requests]:
            windows = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            pieces = [(None, *make_disjoint_window(window)) for window in windows]
            totals.append(sum(logp for logp, _ in self._loglikelihood_tokens(pieces)))
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), totals[-1])
        return totals

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Greedy text up to the first stop sequence.

        Raises:
            UsageError: for a task that samples, or whose answers leave no room for its questions.
        """
        answers = []
        for context, settings in [request.args for request in requests]:
            wanted = dict(normalize_gen_kwargs(settings))
            if wanted.get("do_sample"):
                raise UsageError(
                    "A task asks for sampled text (do_sample: true); models are compared by greedy text here. Set "
                    "generation_kwargs.do_sample to false in a task file of your own, and name its folder as "
                    "include_path"
                )
            room = int(wanted["max_gen_toks"])
            if room >= self.max_length:
                raise UsageError(
                    f"A task asks for answers of up to {room} tokens, and the model takes {self.max_length} with the "
                    "question. Set generation_kwargs.max_gen_toks in a task file of your own"
                )
            end = self.tokenizer.decode(self.eot_token_id)
            stops = handle_stop_sequences(list(wanted.get("until") or []), eos=end)
            tokens = self.tok_encode(context)[-(self.max_length - room) :]
            written = self._process.generate_until(tokens, room, partial(self._stopped, stops))
            text = postprocess_generated_text(self._decoded(written), stop=stops, think_end_token=None)
            answers.append(str(text))
            self.cache_hook.add_partial("generate_until", (context, settings), answers[-1])
            self._count(1)
        return answers

    def _count(self, answered: int) -> None:
        self._answered += answered
        self._progress(self._answered)

    def _stopped(self, stops: list[str], written: list[int]) -> bool:
        text = self._decoded(written)
        return any(stop in text for stop in stops if stop)

    def _decoded(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))
