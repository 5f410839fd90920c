"""Compare the words of a folder with its checkpoint's: token ids, decoding, chat template and end-of-text tokens.

ONNX Runtime GenAI has a tokenizer and a template engine of its own. Both are asked beside transformers'; a tokenizer
belongs to a model in GenAI, so a graph of a few nodes stands in for the real one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from olivine.passes.artifact import GENAI_CONFIG
from olivine.passes.errors import UsageError
from olivine.passes.parity.texts import sample
from olivine.passes.sources.chat_template import read_template

#: What tokenizers differ in beyond prose.
_SPACES = (
    "  two spaces before",
    "one behind ",
    "\n\n\n",
    "\ttab\t\ttabs",
    "no\u00a0break",
    "zero\u200bwidth",
    "\r\nend",
)
_SPECIAL = 6
_SHOWN, _TEXT = 3, 40
_TURNS = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "Who sails in March? "},
    {"role": "assistant", "content": "Nobody."},
    {"role": "user", "content": "And in May?"},
]
_TOOL = {
    "type": "function",
    "function": {
        "name": "tide",
        "description": "Height of the tide.",
        "parameters": {"type": "object", "properties": {"port": {"type": "string"}}, "required": ["port"]},
    },
}


def differing_words(checkpoint: Path, folder: Path, tokenizer: Any) -> tuple[str, ...]:
    """Sentences on what GenAI reads or writes otherwise than transformers; none where they agree.

    Args:
        checkpoint: with the tokenizer, the template and the generation config.
        folder: of the export.
        tokenizer: transformers', of the checkpoint.
    """
    import onnxruntime_genai as genai

    with tempfile.TemporaryDirectory(prefix=".words-", dir=folder.parent) as scratch:
        try:
            own = genai.Tokenizer(genai.Model(str(_stand_in(folder, Path(scratch)))))
        except RuntimeError as error:
            return (f"ONNX Runtime GenAI can't load its tokenizer: {error}",)
        return tuple([*_ids(own, tokenizer), *_templates(own, folder), *_ends(checkpoint, folder)])


def _ids(own: Any, tokenizer: Any) -> Iterator[str]:
    texts = [*sample().splitlines(), sample(), *_SPACES, *(f"a {t} b" for t in tokenizer.all_special_tokens[:_SPECIAL])]
    texts = [text for text in texts if text]
    ids = [list(tokenizer(text).input_ids) for text in texts]
    genai_ids = [[int(token) for token in own.encode(text)] for text in texts]
    differ = [number for number in range(len(texts)) if ids[number] != genai_ids[number]]
    if differ:
        shown = "; ".join(_gap(texts[n], ids[n], genai_ids[n], tokenizer) for n in differ[:_SHOWN])
        yield f"its tokenizer cuts {len(differ)} of {len(texts)} texts otherwise in ONNX Runtime GenAI: {shown}"
    written = [
        (tokenizer.decode(tokens, skip_special_tokens=True), own.decode(np.array(tokens, np.int32))) for tokens in ids
    ]
    apart = [(ours, theirs) for ours, theirs in written if ours.strip() != theirs.strip()]
    if apart:
        ours, theirs = apart[0]
        place = next((n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 0)
        yield (
            f"ONNX Runtime GenAI writes {len(apart)} of {len(written)} texts otherwise: "
            f"{theirs[place : place + _TEXT]!r} instead of {ours[place : place + _TEXT]!r}"
        )


def _gap(text: str, ids: Sequence[int], genai_ids: Sequence[int], tokenizer: Any) -> str:
    """The first tokens that differ, as text."""
    place = next(
        (n for n, (a, b) in enumerate(zip(ids, genai_ids, strict=False)) if a != b), min(len(ids), len(genai_ids))
    )

    def around(tokens: Sequence[int]) -> str:
        return "|".join(tokenizer.decode([token]) for token in tokens[place : place + 4])

    return f"{text[:_TEXT]!r} as {around(genai_ids)!r} instead of {around(ids)!r}"


def _templates(own: Any, folder: Path) -> Iterator[str]:
    template = read_template(folder)
    if template is None:
        return
    conversations: list[tuple[str, list[Mapping[str, Any]], list[Mapping[str, Any]] | None]] = [
        ("a question", [_TURNS[1]], None),
        ("a conversation with a system prompt", list(_TURNS), None),
    ]
    if "tools" in template.text:
        conversations.append(("a question with a tool", [_TURNS[1]], [_TOOL]))
    for name, messages, tools in conversations:
        try:
            expected = template.render(messages, tools=tools)
        except UsageError:
            continue  # the template refuses such a conversation
        more = {"tools": json.dumps(tools)} if tools else {}
        rendered = _said(
            lambda m=messages, k=more: own.apply_chat_template(json.dumps(m), add_generation_prompt=True, **k)
        )
        if rendered.startswith("can't be"):
            yield f"the chat template of {name} {rendered}; olivine chat renders it by jinja2"
        elif rendered != expected:
            place = next((n for n, (a, b) in enumerate(zip(rendered, expected, strict=False)) if a != b), 0)
            yield (
                f"the chat template of {name} gives {rendered[place : place + _TEXT]!r} in ONNX Runtime GenAI, "
                f"{expected[place : place + _TEXT]!r} in transformers; olivine chat renders it by jinja2"
            )


def _said(render: Callable[..., Any]) -> str:
    try:
        return str(render())
    except RuntimeError as error:
        return f"can't be rendered by ONNX Runtime GenAI ({str(error).splitlines()[0][:120]})"


def _ends(checkpoint: Path, folder: Path) -> Iterator[str]:
    """End-of-text tokens of generation_config.json that genai_config.json lacks: generation would run over them."""
    path = checkpoint / "generation_config.json"
    stated = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.is_file() else None
    known = json.loads((folder / GENAI_CONFIG).read_text(encoding="utf-8"))["model"]["eos_token_id"]
    missing = sorted({*_listed(stated)} - {*_listed(known)})
    if missing:
        yield f"the end-of-text tokens {missing} of generation_config.json are not in genai_config.json"


def _listed(ids: int | Sequence[int] | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)


def _stand_in(folder: Path, to: Path) -> Path:
    """The folder's tokenizer with a graph of nothing."""
    config = json.loads((folder / GENAI_CONFIG).read_text(encoding="utf-8"))
    decoder = config["model"]["decoder"]
    for file in folder.iterdir():
        if file.is_file() and not file.name.startswith(decoder["filename"]):
            shutil.copyfile(file, to / file.name)
    cache = {"past_key_names": "past_key_values.%d.key", "past_value_names": "past_key_values.%d.value"}
    facts = {name: config["model"][name] for name in ("bos_token_id", "eos_token_id", "pad_token_id", "context_length")}
    config["model"] = {
        **facts,
        "type": "llama",
        "vocab_size": 1,
        "decoder": {
            "filename": "nothing.onnx",
            "head_size": 1,
            "hidden_size": 1,
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
            "num_key_value_heads": 1,
            "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **cache},
            "outputs": {
                "logits": "logits",
                "present_key_names": "present.%d.key",
                "present_value_names": "present.%d.value",
            },
        },
    }
    (to / GENAI_CONFIG).write_text(json.dumps(config), encoding="utf-8")
    onnx.save(_nothing(), to / "nothing.onnx")
    return to


def _nothing() -> onnx.ModelProto:
    """A decoder of a vocabulary of one token."""
    ids, floats = TensorProto.INT64, TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info(name, ids, ["b", n]) for name, n in (("input_ids", "s"), ("attention_mask", "t"))
    ]
    outputs = [helper.make_tensor_value_info("logits", floats, ["b", "s", 1])]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["floats"], to=floats),
        helper.make_node("Unsqueeze", ["floats", "last"], ["logits"]),
    ]
    for kind in ("key", "value"):
        past, present = f"past_key_values.0.{kind}", f"present.0.{kind}"
        inputs.append(helper.make_tensor_value_info(past, floats, ["b", 1, "p", 1]))
        outputs.append(helper.make_tensor_value_info(present, floats, ["b", 1, "t", 1]))
        nodes.append(helper.make_node("Identity", [past], [present]))
    graph = helper.make_graph(nodes, "nothing", inputs, outputs, [numpy_helper.from_array(np.array([2]), "last")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
