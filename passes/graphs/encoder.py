"""A Hugging Face encoder as an ONNX graph, by torch's exporter: text, pictures, or Whisper's audio."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from olivine.passes.errors import SourceError
from olivine.passes.graphs.sentence import sentence_head
from olivine.passes.sources.weights.fit import RANDOM, Fit

if TYPE_CHECKING:
    import torch

OPSET = 17
#: Example sizes; all named axes stay open.
_BATCH, _TOKENS, _PADDED = 2, 16, 9
#: Parts of encoders whose output no graph reads.
_UNREAD = ("pooler.",)
#: Ending of the architectures that classify each token.
TOKEN_CLASSIFIER = "ForTokenClassification"
_WHISPER_FRAMES = 2  # frames that a position of Whisper's encoder stands for


@dataclass(frozen=True)
class EncoderForm:
    """An export: a function of the named inputs, an example of each, and its output's name.

    Attributes:
        run: the function.
        example: name of each input -> a value.
        output: name of the output.
        each_token: the output has a vector for each token.
        longest: tokens that a text may have; 0 for pictures and audio.
        vocabulary: token ids that there are.
    """

    run: Callable[..., torch.Tensor]
    example: Mapping[str, torch.Tensor]
    output: str
    each_token: bool = False
    longest: int = 0
    vocabulary: int = 0


def export_encoder(folder: Path, to: Path) -> None:
    """Write the graph of a checkpoint to the file ``to``.

    A sentence transformer's graph ends in its pooling (mean or first token) and normalization; a classifier's, of
    texts, tokens or pictures, in its logits; any other in ``last_hidden_state``. Of CLIP, the picture tower with its
    projection is exported; of Whisper, the encoder.

    Raises:
        SourceError: when the model is none of these.
    """
    import torch

    model, form = load_encoder(folder)

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return form.run(dict(zip(form.example, inputs, strict=True)))

    tokens = "input_ids" in form.example
    open_axes = {name: {0: "batch", 1: "sequence"} if tokens else {0: "batch"} for name in form.example}
    open_axes[form.output] = {0: "batch", 1: "sequence"} if form.each_token else {0: "batch"}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Exported(),
            tuple(form.example.values()),
            str(to),
            input_names=list(form.example),
            output_names=[form.output],
            dynamic_axes=open_axes,
            opset_version=OPSET,
            dynamo=False,
        )


def load_encoder(folder: Path) -> tuple[Any, EncoderForm]:
    """The model of a checkpoint in float32, and what of it is exported.

    Raises:
        SourceError: when it lacks weights, or is no encoder that is exported.
    """
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    names = list(config.architectures or [])
    auto = transformers.AutoModel
    output = "last_hidden_state"
    heads = {
        "ForSequenceClassification": transformers.AutoModelForSequenceClassification,
        TOKEN_CLASSIFIER: transformers.AutoModelForTokenClassification,
        "ForImageClassification": transformers.AutoModelForImageClassification,
    }
    for ending, head in heads.items():
        if any(ending in name for name in names):
            auto, output = head, "logits"
    # Eager attention is what onnxruntime.transformers recognizes.
    model, info = auto.from_pretrained(
        folder,
        attn_implementation="eager",
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    _check_loaded(Fit.of(info), folder, type(model).__name__)
    model.eval()
    return model, _form(model, config, output, folder)


def _check_loaded(fit: Fit, folder: Path, architecture: str) -> None:
    """Refuse a checkpoint that lacks weights which the graph reads; heads that it does not read may be left over.

    Raises:
        SourceError: listing what is missing or of another shape.
    """
    missing = tuple(name for name in fit.missing if not name.startswith(_UNREAD))
    if mistake := Fit(missing, (), fit.other_shape).mistake(architecture):
        raise SourceError(f"{folder}: {mistake}. {RANDOM}")


def _form(model: Any, config: Any, output: str, folder: Path) -> EncoderForm:
    import torch

    kind = config.model_type
    if kind == "clip":
        size = config.vision_config.image_size

        def image_embeds(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            pooled = model.vision_model(pixel_values=inputs["pixel_values"])[1]
            embeds: torch.Tensor = model.visual_projection(pooled)
            return embeds

        return EncoderForm(image_embeds, {"pixel_values": torch.zeros(_BATCH, 3, size, size)}, "image_embeds")
    if kind == "whisper":
        frames = _WHISPER_FRAMES * config.max_source_positions
        encoder = model.get_encoder()

        def hidden(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            states: torch.Tensor = encoder(inputs["input_features"])[0]
            return states

        return EncoderForm(hidden, {"input_features": torch.zeros(_BATCH, config.num_mel_bins, frames)}, output)
    if getattr(config, "image_size", None):
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        channels = getattr(config, "num_channels", 3)
        return EncoderForm(
            lambda inputs: model(pixel_values=inputs["pixel_values"])[0],
            {"pixel_values": torch.zeros(_BATCH, channels, height, width)},
            output,
        )
    if getattr(config, "vocab_size", None) and not getattr(config, "is_encoder_decoder", False):
        return _text(model, config, output, folder)
    raise SourceError(
        f"{folder}: olivine exports encoders of text, pictures, CLIP and Whisper, and '{kind}' is none. Export it to "
        "ONNX yourself, and give the .onnx file as the model."
    )


def _text(model: Any, config: Any, output: str, folder: Path) -> EncoderForm:
    import torch

    ids = torch.ones(_BATCH, _TOKENS, dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, _PADDED:] = 0  # a mask of ones alone would be traced away
    example = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) and config.model_type in ("bert", "electra", "albert"):
        example["token_type_ids"] = torch.zeros_like(ids)
    # RoBERTa counts positions from behind its padding token on.
    longest = int(getattr(config, "max_position_embeddings", _TOKENS)) - 2
    head = sentence_head(folder)
    if output == "logits" or head is None:
        tagged = any(TOKEN_CLASSIFIER in name for name in config.architectures or [])
        each = tagged or output != "logits"
        return EncoderForm(lambda inputs: model(**inputs)[0], example, output, each, longest, config.vocab_size)

    def embedding(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return head(model(**inputs)[0], inputs["attention_mask"])

    return EncoderForm(embedding, example, "sentence_embedding", False, longest, config.vocab_size)
