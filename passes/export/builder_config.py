"""The config of a model as the GenAI model builder understands it, where transformers' own would mislead it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from olivine.passes.errors import PassRefused
from olivine.passes.export.mends import epsilon
from olivine.passes.export.rope_tables import RopeTables


def tell_builder(config: Any, mends: Collection[str], tables: Mapping[str, RopeTables]) -> None:
    """Change the config that the builder reads, which nothing else does.

    Args:
        config: as transformers parsed it for the builder.
        mends: of the model; the graph is mended afterwards of what the builder is not told here.
        tables: of its RoPE, where that is mended.

    Raises:
        PassRefused: when the builder can't be told of the model at all.
    """
    text = text_of(config)
    architecture = str(config.architectures[0])
    if "head_dim" in (getattr(text, "per_layer_attributes", None) or ()):
        raise PassRefused(
            f"The layers of this {architecture} have heads of different sizes, as transformers describes them, and the "
            "GenAI model builder reads one size for all."
        )
    if "windows" in mends:
        text.layer_types = ["sliding_attention"] * text.num_hidden_layers
    if "no_rope_layers" in mends:  # as if all had RoPE
        text.no_rope_layers = [1] * text.num_hidden_layers
    if "epsilon" in mends:
        config.rms_norm_eps = epsilon(architecture, config.to_dict())
    if "rope" in mends:
        if architecture == "GptOssForCausalLM":
            raise PassRefused(
                "The GenAI model builder exports GPT-OSS with YaRN as it was published alone (truncate: false), and "
                f"this model's RoPE is {text.rope_parameters}."
            )
        text.rope_parameters = {
            kind: _plain(about, text, tables.get(kind)) for kind, about in _by_layer(text.rope_parameters).items()
        }
        if "" in text.rope_parameters:
            text.rope_parameters = text.rope_parameters[""]
    _flatten_rope(text)
    if isinstance(getattr(text, "rope_parameters", None), dict):
        _name_rope(text, architecture)


def text_of(config: Any) -> Any:
    """The part of a parsed config that is about text."""
    return getattr(config, "text_config", config)


def _by_layer(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return dict(parameters) if "full_attention" in parameters else {"": parameters}


def _plain(about: Mapping[str, Any], text: Any, tables: RopeTables | None) -> dict[str, Any]:
    """RoPE without scaling, of as many features as are rotated."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    plain = {"rope_type": "default", "rope_theta": about["rope_theta"]}
    return (
        plain
        if tables is None or tables.features == width
        else plain | {"partial_rotary_factor": tables.features / width}
    )


def _flatten_rope(text: Any) -> None:
    """Say in the builder's words what transformers 5 nests by layer type (Gemma 3)."""
    nested = getattr(text, "rope_parameters", None) or {}
    if set(nested) == {"full_attention", "sliding_attention"}:
        text.rope_parameters = dict(nested["full_attention"])
        text.rope_local_base_freq = nested["sliding_attention"]["rope_theta"]


def _name_rope(text: Any, architecture: str) -> None:
    """Say what the builder asks of LongRoPE (Phi 3): its type twice, and no longer context where it has no factors."""
    if text.rope_parameters.get("rope_type") == "longrope":
        text.rope_parameters.setdefault("type", "longrope")
    elif architecture == "Phi3ForCausalLM":
        text.original_max_position_embeddings = text.max_position_embeddings
