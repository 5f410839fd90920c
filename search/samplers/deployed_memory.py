"""DeployedMemory: predicts ``deployed_rss_bytes`` of a recipe from bytes that are known before it is built.

    process + weights as kernels keep them + embedding + cache of the whole context + activations of a piece of a prompt

The factors below were read off recipes of the demo model, each at seven lengths of prompt, context and piece (ONNX
Runtime 1.31, ONNX Runtime GenAI 0.18, Linux). A study corrects them by its float base.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from olivine.evaluators.scenario.context_bytes import context_bytes
from olivine.evaluators.scenario.scenario import Scenario
from olivine.passes.graph import HEAD, linears, load_graph
from olivine.passes.kernel import Kernel
from olivine.passes.quantize.embedding import BLOCK_SIZE, QuantizeEmbedding
from olivine.passes.quantize.kv_cache import QuantizeCache
from olivine.passes.quantize.layer_loss import LayerLoss
from olivine.passes.quantize.quantize_pass import QuantizePass
from olivine.passes.quantize.shared_embedding import ShareEmbedding
from olivine.passes.recipe import Recipe, Step
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.passes.sources.model_shape import Shape, cached_numbers, config_layers, knows_shapes, query_heads
from olivine.passes.sources.source import Source
from olivine.passes.transforms.chunked_prefill import ChunkedPrefill
from olivine.passes.transforms.growing_cache import GrowingCache
from olivine.passes.transforms.prompt_attention import WholeScores
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.records import TrialRecord
from olivine.search.samplers.layer_kernels import kernel_of, layer_formats

FLOAT_BYTES = 4
#: A process with Python, numpy and ONNX Runtime GenAI before it has a model, and its tokenizer, for each of its tokens.
PROCESS_BYTES, TOKENIZER_BYTES = 61e6, 550
#: Beside the codes, of each block: the scale, as stored and as packed, the sum of its codes, and the zero point.
BLOCK_BYTES = 3 * FLOAT_BYTES + 1
#: Activations of a token, over what the layers of one block give out: two are alive at a time, and the arena has slack.
ALIVE = 2.4
#: Arrays of attention scores that are alive at a time, where all of a head are computed at once.
SCORES = 2
#: Codes of a shared embedding that are kept beside the head's packed ones: the file's, and in part reshaped.
SHARED_COPIES = 1.4
#: Caches that are alive at a time where each step gets a longer one.
GROWING_COPIES = 2
#: A float embedding is mapped, and a look-up brings the pages around it too (Linux: fault_around_bytes).
FAULT_AROUND = 65536
#: Bounds on the base's activations, measured over predicted. Half of it counts, on a logarithmic scale: kernels of
#: integers need other room than the base's.
CORRECTION = (0.25, 4.0)


@dataclass(frozen=True)
class DecoderSizes:
    """Sizes of a decoder.

    Attributes:
        layers: path -> input and output features of each linear layer.
        vocabulary: tokens.
        hidden: features of the embedding.
        heads: of queries.
        cache_bytes: keys and values of a token in float32.
    """

    layers: Mapping[str, Shape]
    vocabulary: int
    hidden: int
    heads: int
    cache_bytes: float

    @classmethod
    def of_folder(cls, folder: Path) -> DecoderSizes:
        """Sizes of an exported float folder."""
        config = read_genai_config(folder)["model"]
        decoder = config["decoder"]
        layers = {layer.path: layer.shape for layer in linears(load_graph(folder / str(decoder["filename"])))}
        vocabulary, hidden = int(config["vocab_size"]), int(decoder["hidden_size"])
        return cls(layers, vocabulary, hidden, int(decoder["num_attention_heads"]), context_bytes(folder, 1))

    @classmethod
    def of_source(cls, source: Source) -> DecoderSizes | None:
        """Sizes of a model that is not exported yet, as its config.json tells them; None where it does not."""
        if source.kind == "onnx" and source.path is not None:
            return cls.of_folder(source.path)
        if not knows_shapes(source):
            return None
        layers = config_layers(source)
        hidden, vocabulary = layers[HEAD]
        return cls(layers, vocabulary, hidden, query_heads(source), FLOAT_BYTES * cached_numbers(source))

    @cached_property
    def even_losses(self) -> dict[str, LayerLoss]:
        """Losses by which no layer is more sensitive than another, for shares of the weights."""
        return {path: _even_loss(path, k, n) for path, (k, n) in self.layers.items()}

    @cached_property
    def token_bytes(self) -> float:
        """Bytes of the activations that the largest block of layers gives out for a token."""
        blocks: dict[str, int] = defaultdict(int)
        for path, (_, n) in self.layers.items():
            if path != HEAD:
                blocks[path.split("/")[0]] += n
        return FLOAT_BYTES * float(max(blocks.values(), default=self.hidden))


def _even_loss(path: str, k: int, n: int) -> LayerLoss:
    return LayerLoss(path, k, n, defaultdict(lambda: float(k * n)), defaultdict(float))


@dataclass(frozen=True)
class _Held:
    """Bytes of the weights of a session, and those of the largest."""

    sum: float
    largest: float


@dataclass(frozen=True)
class DeployedMemory:
    """Predicts the resident peak of recipes of one model in one scenario, on the CPU.

    Attributes:
        sizes: of the decoder.
        context: tokens that the cache has room for.
        tokens: of all prompts and answers.
        prompt_tokens: of the longest prompt.
        process_bytes: of a process with a tokenizer and without a model.
        activations: what activations take, over what the sizes say.
    """

    sizes: DecoderSizes
    context: int
    tokens: int
    prompt_tokens: int
    process_bytes: float
    activations: float = 1.0

    @classmethod
    def of(cls, sizes: DecoderSizes, scenario: Scenario, prompt_tokens: int = 0) -> DeployedMemory:
        """Predictions for a scenario.

        Args:
            sizes: of the decoder.
            scenario: with its context.
            prompt_tokens: of the longest prompt of a file; 0 for the scenario's own length.
        """
        first = prompt_tokens or scenario.prompt_tokens
        tokens = scenario.tokens - scenario.prompt_tokens + first
        longest = first if scenario.turns == 1 else max(first, scenario.turn_tokens)
        process_bytes = PROCESS_BYTES + TOKENIZER_BYTES * sizes.vocabulary
        return cls(sizes, scenario.context, tokens, longest, process_bytes)

    def corrected(self, base: TrialRecord) -> DeployedMemory:
        """The same, by what the float base took; as it is where that was not measured."""
        measured = base.metrics.get("deployed_rss_bytes")
        if measured is None:
            return self
        loaded = float(measured.protocol["loaded_rss_bytes"])
        own = replace(self, process_bytes=loaded - self._held(base.recipe).sum)
        if own.predict(base.recipe) > own._running(base.recipe):  # the peak is that of loading
            return own
        low, high = CORRECTION
        prompt = measured.value - loaded - self.context_bytes(base.recipe) - self._looked_up(base.recipe)
        return replace(own, activations=math.sqrt(min(high, max(low, prompt / self._piece(base.recipe)))))

    def predict(self, recipe: Recipe) -> float:
        """Bytes at the peak: of the prompts, or of loading, when the largest weight is there twice."""
        held = self._held(recipe)
        return max(self._running(recipe), self.process_bytes + held.sum + held.largest)

    def context_bytes(self, recipe: Recipe) -> float:
        """Keys and values of the whole context, allocated at the first prompt; of the tokens so far if it grows."""
        integers = _params(recipe, QuantizeCache.name)
        room = self.context if _params(recipe, GrowingCache.name) is None else GROWING_COPIES * self.tokens
        return room * self.sizes.cache_bytes * (1.0 if integers is None else int(integers["bits"]) / 32)

    def _running(self, recipe: Recipe) -> float:
        """Bytes at the peak of the prompts."""
        held = self._held(recipe).sum + self._looked_up(recipe) + self.context_bytes(recipe)
        return self.process_bytes + held + self.activations * self._piece(recipe)

    def _held(self, recipe: Recipe) -> _Held:
        """Weights as a session holds them once it is made; computed once for all recipes that store them alike."""
        storing = {each.name for each in recipe.known if issubclass(each, (QuantizePass, ShareEmbedding))}
        key = tuple(step for step in recipe.steps if step.name in storing)
        if key not in self._known:
            self._known[key] = self._stored(recipe)
        return self._known[key]

    @cached_property
    def _known(self) -> dict[tuple[Step, ...], _Held]:
        return {}

    def _stored(self, recipe: Recipe) -> _Held:
        stored = layer_formats(recipe, self.sizes.even_losses)
        kernels = {path: kernel_of(form, level) for path, (form, level) in stored.items()}
        weights = [_held_bytes(kernels[path], *shape) for path, shape in self.sizes.layers.items()]
        shared = _params(recipe, ShareEmbedding.name) is not None and HEAD in kernels
        codes = SHARED_COPIES * self._table * kernels[HEAD].bits / 8 if shared else 0.0
        return _Held(sum(weights) + codes, max(weights, default=0.0))

    def _looked_up(self, recipe: Recipe) -> float:
        """The part of the embedding that comes into memory with the prompts; of integers all of it does."""
        if _params(recipe, ShareEmbedding.name) is not None:
            return 0.0
        quantized = _params(recipe, QuantizeEmbedding.name)
        if quantized is not None:
            return self._table * (int(quantized["bits"]) / 8 + FLOAT_BYTES / BLOCK_SIZE)
        rows = max(1.0, FAULT_AROUND / (FLOAT_BYTES * self.sizes.hidden))
        return touched(self.sizes.vocabulary, rows, self.tokens) * FLOAT_BYTES * self.sizes.hidden

    @property
    def _table(self) -> int:
        return self.sizes.vocabulary * self.sizes.hidden

    def _piece(self, recipe: Recipe) -> float:
        """Activations, scores and logits of the tokens that are read at once."""
        chunk = int((_params(recipe, ChunkedPrefill.name) or {}).get("chunk_size", self.prompt_tokens))
        piece = min(chunk, self.prompt_tokens)
        scores = SCORES * self.sizes.heads * self.tokens if _params(recipe, WholeScores.name) is not None else 0
        logits = self.sizes.vocabulary if _params(recipe, PruneHead.name) is None else 0
        return piece * (ALIVE * self.sizes.token_bytes + FLOAT_BYTES * (scores + logits))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DeployedMemory:
        """The inverse of :meth:`to_json`."""
        sizes = dict(content["sizes"])
        layers = {path: (int(k), int(n)) for path, (k, n) in sizes.pop("layers").items()}
        return cls(**{**content, "sizes": DecoderSizes(layers, **sizes)})


def touched(vocabulary: int, rows: float, tokens: int) -> float:
    """Rows of an embedding that come into memory in groups of so many, where tokens follow Zipf's law.

    A group around the token of rank x is missed by all tokens with ``exp(-tokens * rows / (x * ln(vocabulary)))``.
    """
    ranks = [rows * (group + 0.5) for group in range(math.ceil(vocabulary / rows))]
    rate = tokens * rows / math.log(vocabulary)
    return min(float(vocabulary), rows * sum(-math.expm1(-rate / rank) for rank in ranks))


def _held_bytes(kernel: Kernel, k: int, n: int) -> float:
    """Bytes that a session holds of a weight [K, N]."""
    if not kernel.block_size:
        return kernel.weight_bytes(k, n)
    blocks = math.ceil(k / kernel.block_size)
    return n * blocks * (kernel.block_size * kernel.bits / 8 + BLOCK_BYTES)


def _params(recipe: Recipe, name: str) -> dict[str, Any] | None:
    """Parameters of a recipe's step; None where it has no such step."""
    return next((step.params for step in recipe.steps if step.name == name), None)
