"""Ready-made parts of studies: search spaces by provider and target, known good choices, and ways to measure.

The CPU's spaces come from studies of the demo model (``configs/demo.yaml``, results/demo). Those of GPUs hold what
CUDA's kernels take; none of them has run on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from olivine.evaluators.scenario.guesses import MIN_TOKENS
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS, count_prompts
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.base import Scalar
from olivine.passes.precisions import AS_IT_CAME, MIXED
from olivine.passes.providers import PROVIDERS
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.workloads.text_defaults import LEAST_WINDOWS, LONGEST_WINDOW

#: The text that a study of a model of unknown origin is scored on.
WIKITEXT = {"dataset": "Salesforce/wikitext", "config": "wikitext-2-raw-v1", "split": "test"}


@dataclass(frozen=True)
class SearchScope:
    """Limits of a search space.

    Attributes:
        learns: whether candidates may learn from text (GPTQ).
        mixes: whether layers may differ in precision, which takes a backward pass over the checkpoint.
        wide: whether there is time for axes that bring a few percent.
        fuses: whether the graph is exported here, which is where projections are fused.
        shares: whether head and embedding have one matrix, so that the codes of the one can serve the other.
        packs_cache: whether the cache of the context may be int8, since it would take much of the allowed memory.
    """

    learns: bool = True
    mixes: bool = True
    wide: bool = False
    fuses: bool = True
    shares: bool = False
    packs_cache: bool = False

    @property
    def embedding(self) -> str:
        """The precision of the embedding that costs least beside its bytes."""
        return "shared" if self.shares else "int8"

    @property
    def prompts(self) -> dict[str, Scalar]:
        """The fastest way to read prompts, in pieces, so that the memory of whole attention stays small."""
        return {"prompt_attention": "whole", "chunk_size": 512} if self.fuses else {}


@dataclass(frozen=True)
class MeasurementBudget:
    """Bounds on the measurement of one candidate.

    Attributes:
        windows: windows of text to score.
        window_tokens: tokens of each.
        prompt_tokens: length of the timed prompt.
        new_tokens: tokens that are timed after it.
        seconds: most timing of a candidate.
        confirm_seconds: most timing of a member of the front.
        members: most members to confirm.
    """

    windows: int
    window_tokens: int
    prompt_tokens: int
    new_tokens: int
    seconds: float
    confirm_seconds: float
    members: int

    def at_context(self, context: int) -> MeasurementBudget:
        """The same with windows as long as a context, of at most twice as many tokens."""
        tokens = 2 * self.windows * self.window_tokens
        length = max(self.window_tokens, min(context, LONGEST_WINDOW, tokens // LEAST_WINDOWS))
        return replace(self, windows=min(self.windows, tokens // length), window_tokens=length)


#: From the most thorough to the least.
MEASUREMENT_BUDGETS = (
    MeasurementBudget(16, 512, 256, 64, 12, 20, 6),
    MeasurementBudget(12, 512, 128, 32, 8, 15, 5),
    MeasurementBudget(8, 256, 128, 32, 6, 12, 4),
    MeasurementBudget(6, 256, 128, 32, 4, 8, 3),
    MeasurementBudget(4, 128, 64, 16, 2, 4, 2),
)


@dataclass(frozen=True)
class Tier:
    """A size of search.

    Attributes:
        scope: what the search may use.
        candidates: least number of candidates that there has to be time for.
        budgets: how many of the measurement budgets, from the most thorough, are tried with it.
    """

    scope: SearchScope
    candidates: int
    budgets: int


#: The first tier that fits the budget is taken. Axes of a few percent are worth nothing where a measurement can't tell
#: a few percent.
TIERS = {
    "wide": Tier(SearchScope(wide=True), candidates=30, budgets=2),
    "usual": Tier(SearchScope(), candidates=10, budgets=5),
    "one precision a model": Tier(SearchScope(mixes=False), candidates=8, budgets=5),
    "nothing learned": Tier(SearchScope(learns=False, mixes=False), candidates=6, budgets=5),
}


@dataclass(frozen=True)
class Preset:
    """A search space and the choices measured first, as a YAML has them, and why it is this one."""

    space: Mapping[str, Any]
    enqueue: tuple[Mapping[str, Scalar], ...]
    why: str


def preset(provider: str, target: str, precision: str, scope: SearchScope, coded: bool = False) -> Preset:
    """The space for a provider and a target.

    Args:
        provider: that runs the candidates.
        target: decode, prefill or size.
        precision: the only one; empty for all that pay.
        scope: what the search may use.
        coded: the checkpoint is quantized already: its own codes are measured beside those that are made.
    """
    made = _preset(provider, target, precision, scope)
    if not coded or precision:
        return made
    space = {**made.space, "precision": [*made.space["precision"], AS_IT_CAME]}
    return replace(made, space=space, enqueue=({"precision": AS_IT_CAME}, *made.enqueue))


def _preset(provider: str, target: str, precision: str, scope: SearchScope) -> Preset:
    precisions = [precision] if precision else ["int8", "int4", *([MIXED] if scope.mixes else [])]
    if provider != "cpu":
        return _for_another_provider(provider, precisions, scope)
    algorithms = ["rtn", *(["k_quant"] if scope.wide or not scope.learns else []), *(["gptq"] if scope.learns else [])]
    blocks = [16, 32, 64, 128] if scope.wide else [32, 64, 128]
    space: dict[str, Any] = {"precision": precisions, "algorithm": algorithms, "block_size": blocks}
    space |= {"lm_head": ["same", "int8"], "embedding": scope.embedding, "activations": ["float", "int8"]}
    if scope.fuses:
        space |= {"prompt_attention": ["tiled", "whole"], "chunk_size": 512}
    if scope.fuses:
        space["fusion_level"] = ["qkv", "full"] if scope.wide else "full"
    if target == "size":
        space |= {"block_size": [32, 64, 128, 256], "activations": "float"}
        if not scope.shares:
            space["embedding"] = ["int8", "int4"]
    else:
        space["activation_range"] = ["token", "token_down", "token_outputs"]
        space |= {"dynamic_weights": "learned"} if scope.learns else {}
    if target == "prefill":
        space["dynamic_layers"] = ["all", "not_down"]
    if scope.packs_cache:
        space["kv_cache"] = ["float", "int8"]
    if MIXED in precisions:
        space |= {"int8_share": {"low": 0.0, "high": 0.8}, "int8_block_size": 128}
        if target != "size":
            space["dynamic_share"] = {"low": 0.1, "high": 1.0}
    return Preset(_unwrapped(space), tuple(_known_good(target, precisions, scope)), _WHY[target])


#: Axes of n-gram speculation, which excludes the pruned head.
GUESSES: Mapping[str, Any] = {"prune_head": [True, False], "ngram_size": [0, 3], "max_draft_tokens": [4, 8]}


def speculation(use: Scenario | None, provider: str, target: str, newer: Mapping[str, Scalar]) -> Mapping[str, Any]:
    """The axes of speculation, where decode is the goal and answers to enough real prompts are timed; else none.

    Args:
        use: the scenario.
        provider: that runs the candidates.
        target: decode, prefill or size.
        newer: defaults of a new study, which prune the head where it is known.

    Raises:
        UsageError: when the file of prompts can't be read.
    """
    known = provider == "cpu" and bool(newer.get(PruneHead.name))
    if use is None or not known or target != "decode" or use.new_tokens < MIN_TOKENS:
        return {}
    return GUESSES if count_prompts(use) >= LEAST_ANSWERS else {}


def with_guesses(choices: Sequence[Mapping[str, Scalar]], guesses: Mapping[str, Any]) -> list[Mapping[str, Scalar]]:
    """The choices, the surest one also with guesses where the search may make some: both sides are seen early."""
    if not choices or not guesses:
        return list(choices)
    first, *others = choices
    return [first, {**first, **{axis: values[-1] for axis, values in guesses.items()}}, *others]


def good_choice(provider: str, target: str, precision: str, scope: SearchScope) -> dict[str, Scalar]:
    """One good choice of a precision, for a build without a search."""
    if precision in ("fp32", "fp16", "bf16", AS_IT_CAME):
        return {"provider": provider, "precision": precision}
    if provider != "cpu":
        algorithm = {"algorithm": "k_quant"} if precision == "int4" else {}
        head: dict[str, Scalar] = {"lm_head": "int8"} if precision == "int4" else {}
        return {"provider": provider, "precision": precision, "block_size": 32, **algorithm, **head}
    fused: dict[str, Scalar] = {"fusion_level": "full"} if scope.fuses else {}
    choice: dict[str, Scalar] = {"precision": precision, **fused, "embedding": scope.embedding, **scope.prompts}
    learned: dict[str, Scalar] = {"algorithm": "gptq" if scope.learns else "k_quant"}
    if precision == "int8":
        return {**choice, "block_size": 128, **(_FAST if target == "prefill" else {})}
    if precision == "int4":
        size = 64 if target == "size" else 32
        return {**choice, **learned, "block_size": size, **({} if target == "size" else {"lm_head": "int8"})}
    mixed: dict[str, Scalar] = {"block_size": 64, "int8_share": 0.3, "int8_block_size": 128}
    return {**choice, **learned, **mixed, **(_FAST if target == "prefill" else {})}


#: Integer products on prompts, with ranges that all layers bear.
_FAST: Mapping[str, Scalar] = {"activations": "int8", "activation_range": "token"}
_WHY = {
    "decode": "a token of decode reads every weight once, so few bits win; what 4 bits lose, 8 bits in the sensitive "
    "layers or GPTQ give back",
    "prefill": "a prompt is bound by arithmetic, so int8 activations win in all layers that bear them",
    "size": "4 bits in large blocks, and 8 where a layer is sensitive; the embedding counts as much as any layer",
}


def _known_good(target: str, precisions: list[str], scope: SearchScope) -> list[Mapping[str, Scalar]]:
    """Known good choices of the CPU, the surest first: a small budget measures no more."""
    learned: dict[str, Scalar] = {"algorithm": "gptq"} if scope.learns else {"algorithm": "k_quant"}
    int8: dict[str, Scalar] = {"precision": "int8", "block_size": 128}
    int4: dict[str, Scalar] = {"precision": "int4", "block_size": 32, **learned, "lm_head": "int8", **scope.prompts}
    mixed: dict[str, Scalar] = {"precision": "mixed", "block_size": 64, **learned, **scope.prompts}
    choices: list[Mapping[str, Scalar]]
    if target == "prefill":
        fast_mixed = {**mixed, "int8_share": 0.3, **_FAST, "dynamic_share": 1.0}
        choices = [{**int8, **_FAST, **scope.prompts}, fast_mixed, int8, {**int4, **_FAST}]
    elif target == "size":
        small = {"precision": "int4", "block_size": 64, **learned, **scope.prompts}
        choices = [{**mixed, "int8_share": 0.3}, small, int8, {**mixed, "int8_share": 0.1}]
    else:
        choices = [
            int8,
            {**mixed, "int8_share": 0.3},
            int4,
            {**mixed, "int8_share": 0.15},
            {**int8, **_FAST, **scope.prompts},
        ]
    fitting = [choice for choice in choices if choice["precision"] in precisions]
    return [*fitting, *({**choice, "kv_cache": "int8"} for choice in fitting[:2] if scope.packs_cache)]


def _for_another_provider(provider: str, precisions: list[str], scope: SearchScope) -> Preset:
    """The space of a provider whose kernels are not the CPU's: integer weights in blocks, floats around them."""
    space: dict[str, Any] = {"provider": provider, "precision": precisions, "algorithm": ["rtn", "k_quant"]}
    if scope.learns:
        space["algorithm"] = [*space["algorithm"], "gptq"]
    space["block_size"] = [32, 128] if provider == "openvino" else [32, 64, 128]
    space["lm_head"] = ["same", "int8"]
    if MIXED in precisions:
        space |= {"int8_share": {"low": 0.0, "high": 0.8}, "int8_block_size": 128}
    if provider == "openvino":
        space["embedding"] = "int8"
    elif scope.fuses:
        space["fusion_level"] = ["none", "qkv", "full"]
    first: list[Mapping[str, Scalar]] = [{"precision": "int8", "block_size": 32}]
    first.append({"precision": "int4", "block_size": 32, "algorithm": "k_quant", "lm_head": "int8"})
    ran = PROVIDERS[provider].ran
    why = f"integer weights are what saves memory traffic on any provider; olivine has run {ran}"
    return Preset(_unwrapped(space), tuple(c for c in first if c["precision"] in precisions), why)


def _unwrapped(space: Mapping[str, Any]) -> dict[str, Any]:
    """The space with lists of one value as that value."""
    return {
        axis: values[0] if isinstance(values, list) and len(values) == 1 else values for axis, values in space.items()
    }
