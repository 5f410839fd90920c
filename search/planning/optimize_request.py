"""The request of ``olivine optimize``: the words of the command line, and what they mean."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import UsageError, did_you_mean
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.source import DEMO
from olivine.passes.store.atomic_files import write_atomic
from olivine.search.config.quantities import parse_duration, parse_share, parse_size
from olivine.search.config.scenario.section import parse_scenario
from olivine.search.report.formatting import title, value_text

#: Target -> the metric that it makes an objective of.
TARGETS = {"decode": "tpot_ms", "prefill": "ttft_ms", "size": "model_bytes"}
#: Device -> the providers that run there, those first that are tried first.
DEVICES = {"cpu": ("cpu", "openvino"), "gpu": ("cuda", "trt-rtx", "dml", "webgpu")}
FILE = "optimize.json"
#: The scenario that memory is measured in where only a limit is named.
FIT_SCENARIO = "chat"


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
        scenario: the use to measure and export for, as ``scenario:`` of a study takes it; empty for none.
        fit_bytes: most resident memory of the exported folder in its scenario; None for no limit.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: whether code that the checkpoint brings may run.
        peers: folder with the environments of other engines to compare the result with; empty for none.
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
    scenario: str = ""
    peers: str = ""
    fit_bytes: int | None = None

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return TARGETS[self.target]

    @property
    def goal(self) -> str:
        """The aim in words."""
        loss = f"{1 + self.max_loss:g} times the float base's"
        words = f"best {title(self.metric)} at a perplexity of at most {loss}"
        if self.fit_bytes is None:
            return words
        return f"{words}, in at most {value_text('deployed_rss_bytes', self.fit_bytes)} as it is deployed"

    @property
    def memory_constraint(self) -> tuple[str, ...]:
        """The constraint on the memory that the folder is deployed in; none without a limit."""
        return () if self.fit_bytes is None else (f"deployed_rss_bytes <= {self.fit_bytes}",)

    def use(self) -> Scenario | None:
        """The scenario; None where none is asked for."""
        return parse_scenario("--scenario ", self.scenario) if self.scenario else None

    def command(self, to: Path) -> str:
        """The command line that makes the same request."""
        words = ["olivine optimize", shlex.quote(self.model), "--to", shlex.quote(str(to))]
        options = {
            "device": self.device,
            "provider": self.provider,
            "precision": self.precision,
            "budget": f"{self.budget_s:g}s",
            "max-loss": f"{100 * self.max_loss:g}%",
            "target": self.target,
            "text": self.text,
            "scenario": self.scenario,
            "fit": f"{self.fit_bytes}B" if self.fit_bytes else "",
            "revision": self.revision,
            "peers": self.peers,
        }
        words += [f"--{name} {shlex.quote(value)}" for name, value in options.items() if value]
        return " ".join([*words, *(["--trust-remote-code"] if self.trust_remote_code else [])])

    def store(self, folder: Path) -> None:
        """Leave the request in a study folder, which only the same request may resume."""
        write_atomic(folder / FILE, json.dumps(asdict(self), indent=1))

    def check_same(self, folder: Path) -> None:
        """Refuse the study folder of another request; the budget and the other engines alone may differ.

        Raises:
            UsageError: naming what differs.
        """
        if not (folder / FILE).is_file():
            raise UsageError(
                f"{folder} holds a study that 'olivine optimize' did not start. Give --to another folder, or move it."
            )
        earlier = OptimizeRequest(**json.loads((folder / FILE).read_text(encoding="utf-8")))
        ours, theirs = (asdict(replace(request, budget_s=0.0, peers="")) for request in (self, earlier))
        changed = [name.replace("_", "-") for name in ours if ours[name] != theirs[name]]
        if changed:
            raise UsageError(
                f"{folder} holds the search of another request ({', '.join(changed)} differ). Give --to another "
                f"folder, delete that one, or resume it: {earlier.command(Path('DIR'))}"
            )


@dataclass(frozen=True)
class OptimizeWords:
    """A request as it stands on the command line; an empty word is one that was not given."""

    model: str
    device: str = ""
    provider: str = ""
    precision: str = ""
    budget: str = "10m"
    max_loss: str = "5%"
    target: str = "decode"
    text: str = ""
    revision: str | None = None
    trust_remote_code: bool = False
    scenario: str = ""
    peers: str = ""
    fit: str = ""

    def parse(self) -> OptimizeRequest:
        """Make the request.

        Raises:
            UsageError: naming every mistake, each with the nearest valid word.
        """
        budget_s, wrong_budget = _quantity("budget", _parse_budget, self.budget)
        max_loss, wrong_loss = _quantity("max-loss", parse_share, self.max_loss)
        fit, wrong_fit = _quantity("fit", parse_size, self.fit) if self.fit else (None, [])
        mistakes = [
            *_unknown("device", self.device, DEVICES),
            *_unknown("provider", self.provider, PROVIDERS),
            *_unknown("precision", self.precision, LANGUAGE.axes["precision"].values),
            *_unknown("target", self.target, TARGETS),
            *wrong_budget,
            *wrong_loss,
            *wrong_fit,
        ]
        runs_there = (*DEVICES.get(self.device, ()), "qnn")
        if self.device in DEVICES and self.provider in PROVIDERS and self.provider not in runs_there:
            fits = ", ".join(DEVICES[self.device])
            mistakes.append(
                f"--provider: '{self.provider}' does not run on device '{self.device}'. Available there: {fits}."
            )
        if self.text and not self.text.startswith(DEMO) and not Path(self.text).expanduser().is_file():
            mistakes.append(f"--text: there is no file '{self.text}'. A text is demo:news or a local file.")
        if self.scenario:
            try:
                parse_scenario("--scenario ", self.scenario)
            except UsageError as error:
                mistakes.append(str(error))
        if self.peers and budget_s == 0 and not wrong_budget:
            mistakes.append("--peers compares what a search selected; with a budget of 0 nothing is searched.")
        if mistakes:
            raise UsageError("\n".join(mistakes))
        named = ("device", "provider", "precision", "target", "text", "scenario", "peers")
        words = {name: getattr(self, name) for name in named}
        words["scenario"] = words["scenario"] or (FIT_SCENARIO if fit is not None else "")
        return OptimizeRequest(
            self.model,
            budget_s=budget_s,
            max_loss=max_loss,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
            fit_bytes=None if fit is None else int(fit),
            **words,
        )


def _unknown(option: str, word: str, known: Iterable[Scalar]) -> list[str]:
    choices = [str(choice) for choice in known]
    if not word or word in choices:
        return []
    return [f"--{option}: unknown {option} '{word}'. {did_you_mean(word, choices)}"]


def _quantity(option: str, parse: Callable[[object], float], word: str) -> tuple[float, list[str]]:
    """The number, and the mistakes of its word."""
    try:
        return parse(word), []
    except ValueError as error:
        return 0.0, [f"--{option}: {error}"]


def _parse_budget(word: object) -> float:
    """A time, which may be 0 here."""
    return 0.0 if str(word).strip().rstrip("smh").strip() in ("0", "0.0") else parse_duration(word)
