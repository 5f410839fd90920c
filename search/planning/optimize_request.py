"""What ``olivine optimize`` is asked for: its arguments as one frozen value, all mistakes named at once."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from olivine.passes.artifact import write_atomic
from olivine.passes.base import Scalar
from olivine.passes.catalog import AXES
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.source import DEMO
from olivine.search.config.quantities import parse_duration, parse_share

#: What a target makes an objective of.
TARGETS = {"decode": "tpot_ms", "prefill": "ttft_ms", "size": "model_bytes"}
#: Device -> the providers that run there, those first that are tried first.
DEVICES = {"cpu": ("cpu", "openvino"), "gpu": ("cuda", "trt-rtx", "dml", "webgpu")}
FILE = "optimize.json"


@dataclass(frozen=True)
class OptimizeRequest:
    """One call of ``olivine optimize``.

    Attributes:
        model: as ``model:`` of a study takes it.
        device: cpu or gpu; empty for whatever this machine has.
        provider: an execution provider; empty for the device's.
        precision: the only one to search; empty for all that the provider runs.
        budget_s: seconds for everything; 0 builds one model without measuring.
        max_loss: how much perplexity may grow, as a share.
        target: what is to be best: decode, prefill or size.
        text: demo text or file to score on; empty for the usual one.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: whether code that the checkpoint brings may run.
    """

    model: str
    device: str = ""
    provider: str = ""
    precision: str = ""
    budget_s: float = 600.0
    max_loss: float = 0.05
    target: str = "decode"
    text: str = ""
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return TARGETS[self.target]

    def command(self, to: Path) -> str:
        """The command that asks for the same."""
        words = ["olivine optimize", shlex.quote(self.model), "--to", shlex.quote(str(to))]
        given = {
            "device": self.device,
            "provider": self.provider,
            "precision": self.precision,
            "budget": f"{self.budget_s:g}s",
            "max-loss": f"{100 * self.max_loss:g}%",
            "target": self.target,
            "text": self.text,
            "revision": self.revision,
        }
        words += [f"--{name} {shlex.quote(value)}" for name, value in given.items() if value]
        return " ".join([*words, *(["--trust-remote-code"] if self.trust_remote_code else [])])

    def store(self, folder: Path) -> None:
        """Leave it in a study folder, which only the same request goes on with."""
        write_atomic(folder / FILE, json.dumps(asdict(self), indent=1))

    def check_same(self, folder: Path) -> None:
        """Refuse a study folder that another request made; only the budget may differ.

        Raises:
            UsageError: naming what differs.
        """
        if not (folder / FILE).is_file():
            raise UsageError(
                f"{folder} holds a study that 'olivine optimize' did not start. Give --to another folder, or move it."
            )
        made = OptimizeRequest(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        ours, theirs = asdict(replace(self, budget_s=0.0)), asdict(replace(made, budget_s=0.0))
        changed = [name.replace("_", "-") for name in ours if ours[name] != theirs[name]]
        if changed:
            raise UsageError(
                f"{folder} holds the search of another request ({', '.join(changed)} differ). Give --to another "
                f"folder, delete that one, or go on with it: {made.command(Path('DIR'))}"
            )


def parse_request(
    model: str,
    device: str | None,
    provider: str | None,
    precision: str | None,
    budget: str,
    max_loss: str,
    target: str,
    text: str | None,
    revision: str | None,
    trust_remote_code: bool,
) -> OptimizeRequest:
    """The request that command-line words make.

    Raises:
        UsageError: naming every mistake, each with the nearest valid word.
    """
    mistakes: list[str] = []

    def known(flag: str, word: str | None, words: Iterable[Scalar]) -> str:
        choices = [str(each) for each in words]
        if word is not None and word not in choices:
            mistakes.append(f"--{flag}: unknown {flag} '{word}'. {did_you_mean(word, choices)}")
        return word or ""

    def quantity(flag: str, parse: Callable[[object], float], word: str) -> float:
        try:
            return parse(word)
        except ValueError as error:
            mistakes.append(f"--{flag}: {error}")
            return 1.0

    device, provider = known("device", device, DEVICES), known("provider", provider, PROVIDERS)
    precision = known("precision", precision, AXES["precision"].values)
    target = known("target", target, TARGETS)
    budget_s = 0.0 if _is_zero(budget) else quantity("budget", parse_duration, budget)
    loss = quantity("max-loss", parse_share, max_loss)
    if device in DEVICES and provider in PROVIDERS and provider not in (*DEVICES[device], "qnn"):
        fits = ", ".join(DEVICES[device])
        mistakes.append(f"--provider: '{provider}' does not run on device '{device}'. Available there: {fits}.")
    if text and not text.startswith(DEMO) and not Path(text).expanduser().is_file():
        mistakes.append(f"--text: there is no file '{text}'. A text is demo:news or a local file.")
    if mistakes:
        raise UsageError("\n".join(mistakes))
    return OptimizeRequest(
        model, device, provider, precision, budget_s, loss, target, text or "", revision, trust_remote_code
    )


def _is_zero(budget: str) -> bool:
    return budget.strip().rstrip("smh").strip() in ("0", "0.0")
