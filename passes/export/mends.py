"""Mends of the GenAI model builder 0.18: models that it exports otherwise than transformers computes them.

A model that needs none is exported as it is, to the builder's own bytes. For one that does, the builder is told of a
plainer model (``builder_config.py``), and its graph is mended afterwards (``mended_graph.py``). The names of a model's
mends are part of its source's key, so that builds of before are not taken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]

#: Classes of the builder that derive from its Llama and share what that makes of RoPE: llama3, and nothing else.
_LLAMAS = ("LlamaForCausalLM", "SmolLM3ForCausalLM", "NemotronForCausalLM")
#: Classes that apply one window to all layers, and its size where config.json says nothing.
_WINDOWED = {"MistralForCausalLM": 4096, "Phi3ForCausalLM": None}
#: Classes whose epsilon the builder does not look for (it takes 1e-6), the field that has it, and its default.
_EPSILONS = {
    "PhiForCausalLM": ("layer_norm_eps", 1e-5),
    "NemotronForCausalLM": ("norm_eps", 1e-5),
    "OlmoForCausalLM": ("", 1e-5),
}
#: Classes whose RoPE turns a part of each head, as a field of the config says.
_PARTIAL = ("PhiForCausalLM", "Phi3ForCausalLM", "NemotronForCausalLM")


def text_config(config: Config) -> Config:
    """The part of a config that is about text: models of several kinds of input have one inside."""
    inner = config.get("text_config")
    return inner if isinstance(inner, Mapping) else config


def rope_parameters(config: Config) -> dict[str, Config]:
    """Layer type -> parameters of RoPE, of which older configs call some by other names; one type for all is ``""``."""
    text = text_config(config)
    stated = text.get("rope_parameters") or text.get("rope_scaling") or {}
    if "full_attention" in stated:
        return {kind: dict(about or {}) for kind, about in stated.items()}
    return {"": dict(stated)}


def rope_type(parameters: Config) -> str:
    """The type of RoPE scaling: transformers' word."""
    kind = str(parameters.get("rope_type") or parameters.get("type") or "default")
    return {"su": "longrope", "mrope": "default"}.get(kind, kind)


def window_of_all(architecture: str, config: Config) -> int | None:
    """The window that the class applies to every layer; None where it has none, or has them by layer."""
    if architecture not in _WINDOWED or config.get("layer_types"):
        return None
    window = config.get("sliding_window", _WINDOWED[architecture])
    context = config.get("max_position_embeddings")
    return int(window) if window and (context is None or window < context) else None


def epsilon(architecture: str, config: Config) -> float:
    """Epsilon of the norms of a class in :data:`_EPSILONS`."""
    field, default = _EPSILONS[architecture]
    return float(config.get(field) or default)


def _rope(architecture: str, config: Config) -> bool:
    """True when the builder's tables of RoPE are not transformers'."""
    by_layer = rope_parameters(config)
    text = text_config(config)
    if len(by_layer) > 1:
        return any(rope_type(about) != "default" for about in by_layer.values())
    (about,) = by_layer.values()
    kind, partial = rope_type(about), about.get("partial_rotary_factor", text.get("partial_rotary_factor", 1.0))
    if architecture == "GptOssForCausalLM":  # as it was published, which its class has by default
        return bool(about) and (kind != "yarn" or about.get("truncate") is not False)
    if kind == "default":
        return partial != 1.0 and architecture in _LLAMAS and architecture not in _PARTIAL
    trusted = {
        "llama3": architecture in _LLAMAS,
        "linear": architecture not in (*_LLAMAS, "HunYuanDenseV1ForCausalLM"),
        "longrope": architecture == "Phi3ForCausalLM",
        # Within the context that a graph is exported for, it changes nothing; this one has a formula of its own.
        "dynamic": architecture in _LLAMAS or (architecture == "HunYuanDenseV1ForCausalLM" and "alpha" in about),
    }
    return not trusted.get(kind, False)


def layers_without_rope(architecture: str, config: Config) -> tuple[int, ...]:
    """The layers that attend without positions.

    Args:
        architecture: transformers' class.
        config: as plain values; of config.json, or as transformers parsed it.
    """
    count = int(config.get("num_hidden_layers", 0))
    if architecture == "GraniteMoeHybridForCausalLM" and config.get("position_embedding_type") != "rope":
        return tuple(range(count))
    if architecture != "SmolLM3ForCausalLM":
        return ()
    # Every fourth layer, where the config lists none.
    every = int(config.get("no_rope_layer_interval") or 4)
    stated = config.get("no_rope_layers") or [int((layer + 1) % every != 0) for layer in range(count)]
    return tuple(layer for layer, has in enumerate(stated) if not has)


def _clips(architecture: str, config: Config) -> bool:
    return architecture == "OlmoForCausalLM" and bool(config.get("clip_qkv"))


@dataclass(frozen=True)
class Mend:
    """One mend.

    Attributes:
        name: what keys and manifests call it.
        about: what the builder makes of such models, for the person who reads a report.
        needed: whether a model of this class and config needs it.
    """

    name: str
    about: str
    needed: Callable[[str, Config], bool]


MENDS = (
    Mend("rope", "RoPE tables are transformers' own", _rope),
    Mend("windows", "every layer has its sliding window", lambda a, c: window_of_all(a, c) is not None),
    Mend("no_rope_layers", "layers without RoPE have none", lambda a, c: bool(layers_without_rope(a, c))),
    Mend("epsilon", "norms have the epsilon of the config", lambda a, _: a in _EPSILONS),
    Mend("layer_norm", "norms subtract the mean", lambda a, _: a == "OlmoForCausalLM"),
    Mend(
        "clip_qkv",
        "queries, keys and values are clipped",
        lambda a, c: a == "OlmoForCausalLM" and bool(c.get("clip_qkv")),
    ),
)


def mends_of(config: Config) -> tuple[str, ...]:
    """Names of the mends that a model needs.

    Args:
        config: its parsed config.json.
    """
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    return tuple(mend.name for mend in MENDS if mend.needed(architecture, config))


def mends_note(config: Config) -> str:
    """A sentence on the mends of a model's export; empty where there are none."""
    names = mends_of(config)
    abouts = [mend.about for mend in MENDS if mend.name in names]
    return f"the model builder's graph is mended: {'; '.join(abouts)}" if abouts else ""
