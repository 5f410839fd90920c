"""Tiny random checkpoints of the architectures that tests need, made in code, each with a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "phi3", "gemma3", "smollm3")

BOS, EOS, PAD, UNK = "<|im_start|>", "<|im_end|>", "<|pad|>", "<|unk|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_TEXT = (
    "The bank of the river was green and wide, and the old boat lay there all through the winter.",
    "A model is a thing that is wrong in a useful way; a small one is wrong quickly.",
    "Ministers met on Monday to talk about rates, prices and the price of bread.",
)


def tiny_checkpoint(
    folder: Path,
    architecture: str = "llama",
    *,
    hidden: int = 64,
    layers: int = 2,
    vocab: int = 320,
    seed: int = 0,
    tied: bool = True,
    norm_spread: float = 0.3,
    max_shard_size: str = "1GB",
    more: Mapping[str, Any] | None = None,
    config: Any = None,
    make: Callable[..., Any] | None = None,
) -> Path:
    """Write a random checkpoint; the same arguments give the same bytes.

    Args:
        folder: made where it does not exist.
        architecture: one of ``ARCHITECTURES``.
        hidden: hidden size, a multiple of 16 (four heads).
        layers: decoder layers.
        vocab: size of the embedding; the tokenizer knows no more than that.
        seed: of all weights.
        tied: whether head and embedding share their weight.
        norm_spread: standard deviation of norm weights around their start, so that folding them matters.
        max_shard_size: as transformers takes it; small for a sharded checkpoint.
        more: further fields of the config.
        config: a whole config, of any architecture, instead of the arguments that describe one.
        make: makes the model of a config; by default its causal language model.
    """
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    if config is None:
        config = _config(architecture, hidden, layers, vocab, tied, more or {})
    model = (make or AutoModelForCausalLM.from_config)(config, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter += norm_spread * torch.randn(parameter.shape, generator=generator)
            elif name.endswith("bias"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    model.generation_config = GenerationConfig(bos_token_id=0, eos_token_id=1, pad_token_id=2)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    _tokenizer(config.get_text_config().vocab_size).save_pretrained(folder)
    return folder


def tiny_sizes(hidden: int = 64, layers: int = 2, vocab: int = 320, tied: bool = True) -> dict[str, Any]:
    """Fields that the configs of most architectures share."""
    return {
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocab,
        "max_position_embeddings": 256,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "tie_word_embeddings": tied,
        "initializer_range": 0.1,
    }


def _config(architecture: str, hidden: int, layers: int, vocab: int, tied: bool, more: Mapping[str, Any]) -> Any:
    import transformers as tf

    sizes = {**tiny_sizes(hidden, layers, vocab, tied), **more}
    if architecture == "llama":
        return tf.LlamaConfig(**sizes)
    if architecture == "mistral":
        return tf.MistralConfig(**sizes, sliding_window=None)
    if architecture == "qwen2":
        return tf.Qwen2Config(**sizes)
    if architecture == "qwen3":
        return tf.Qwen3Config(**sizes, head_dim=hidden // 4)
    if architecture == "phi3":
        return tf.Phi3Config(**{"original_max_position_embeddings": 256, **sizes})
    if architecture == "gemma3":
        return tf.Gemma3TextConfig(**sizes, head_dim=hidden // 4, query_pre_attn_scalar=hidden // 4, sliding_window=128)
    if architecture == "smollm3":
        return tf.SmolLM3Config(**sizes)
    raise ValueError(f"no tiny checkpoint of architecture {architecture!r}: {', '.join(ARCHITECTURES)}")


def _tokenizer(vocab: int) -> Any:
    """Byte-level BPE: 256 bytes, four special tokens and a few merges, so that any text has tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[BOS, EOS, PAD, UNK],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        chat_template=CHAT_TEMPLATE,
    )
