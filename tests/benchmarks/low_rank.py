"""A LoRA on the errors of a quantized graph: learned in torch, and written as float products beside its layers.

Source: Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (arXiv 2106.09685).
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from olivine.passes.artifact import ModelArtifact, link_or_copy
from olivine.passes.export.check import check_model
from olivine.passes.graph import HEAD, add_initializer, load_graph, save_graph
from olivine.passes.quantize.blocks.packing import BlockCodes, unpack_bits

_NODE = re.compile(r"layers\.(\d+)/(?:.*/)?(\w+)/MatMul\w*$")
_MODULE = re.compile(r"layers\.(\d+)\.(?:self_attn|mlp)\.(\w+)$")


@dataclass(frozen=True)
class Training:
    """How a LoRA is trained.

    Attributes:
        steps: of AdamW.
        batch: pieces of text in a step.
        tokens: of a piece, at most.
        rank: of the LoRA.
        alpha: what it adds is multiplied by ``alpha / rank``.
        rate: learning rate at the start; half a cosine takes it to 0.
        seed: of the LoRA's start and the order of pieces.
    """

    steps: int = 60
    batch: int = 2
    tokens: int = 256
    rank: int = 8
    alpha: float = 16.0
    rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True)
class Branch:
    """What is added beside a layer: ``(x A) B``, with A float32 [K, rank] and B float32 [rank, N]."""

    a: np.ndarray
    b: np.ndarray


class LowRank(torch.nn.Module):
    """A frozen linear layer with a LoRA beside it; at first it adds nothing."""

    def __init__(self, linear: torch.nn.Linear, training: Training) -> None:
        super().__init__()
        n, k = linear.weight.shape
        self.linear, self.scale = linear, training.alpha / training.rank
        self.a = torch.nn.Parameter(torch.empty(k, training.rank).uniform_(-1 / math.sqrt(k), 1 / math.sqrt(k)))
        self.b = torch.nn.Parameter(torch.zeros(training.rank, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[..., K] -> [..., N]."""
        found: torch.Tensor = self.linear(x) + self.scale * (x @ self.a @ self.b)
        return found

    def branch(self) -> Branch:
        """What was learned; the scale is part of B."""
        return Branch(self.a.detach().numpy().copy(), (self.scale * self.b).detach().numpy().copy())


def layers_of(model: ir.Model) -> Iterator[tuple[str, ir.Node]]:
    """Path (``layers.3/down_proj``, ``lm_head``) and node of every linear layer, be its weight codes or floats."""
    for node in model.graph:
        if node.op_type in ("MatMul", "MatMulNBits") and node.name:
            if found := _NODE.search(node.name):
                yield f"layers.{found[1]}/{found[2]}", node
            elif f"/{HEAD}/" in node.name:
                yield HEAD, node


def stored_weight(node: ir.Node) -> np.ndarray:
    """What the codes of a MatMulNBits stand for, float32 [K, N]."""
    k, n, bits, block = (node.attributes[name].as_int() for name in ("K", "N", "bits", "block_size"))
    codes, scales, *zeros = (value.const_value.numpy() for value in node.inputs[1:4] if value is not None)
    blocks = -(-k // block)
    middles = unpack_bits(zeros[0].reshape(n, -1), bits)[:, :blocks] if zeros else None
    unpacked = unpack_bits(codes, bits).reshape(n, blocks, block)
    return BlockCodes(unpacked, scales.reshape(n, blocks).astype(np.float32), middles, bits, k).dequantize()


def float_model(checkpoint: Path) -> Any:
    """The checkpoint in torch: float32, frozen."""
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def student_of(checkpoint: Path, graph: Path) -> Any:
    """The checkpoint with the weights of linear layers, the head's among them, that a quantized graph has.

    The embedding stays float: in 8 bits it loses next to nothing.
    """
    model = float_model(checkpoint)
    weights = {path: stored_weight(node) for path, node in layers_of(load_graph(graph)) if node.op_type != "MatMul"}
    if HEAD in weights:
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(torch.from_numpy(weights.pop(HEAD).T.copy()), requires_grad=False)
    for path, name in projections(model).items():
        model.get_submodule(name).weight.copy_(torch.from_numpy(weights.pop(path).T))
    if weights:
        raise ValueError(f"the checkpoint has no layers {', '.join(weights)}")
    return model


def projections(model: torch.nn.Module) -> dict[str, str]:
    """Path of every linear layer but the head -> the name of its module."""
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    return {f"layers.{found[1]}/{found[2]}": name for name in linear if (found := _MODULE.search(name))}


def with_low_rank(model: torch.nn.Module, training: Training) -> dict[str, LowRank]:
    """Put a LoRA beside every projection of a model, in place; by path."""
    torch.manual_seed(training.seed)
    beside = {}
    for path, name in projections(model).items():
        beside[path] = LowRank(model.get_submodule(name), training)
        parent, _, role = name.rpartition(".")
        setattr(model.get_submodule(parent), role, beside[path])
    return beside


def train(student: Any, teacher: Any, tokens: np.ndarray, training: Training) -> tuple[dict[str, Branch], list[float]]:
    """Train a LoRA on a student's divergence from its teacher.

    Args:
        student: gets the LoRA, in place.
        teacher: the float model.
        tokens: calibration text, token ids [windows, length].
        training: how.

    Returns:
        What is to stand beside each layer, and the divergence of each step's text before the step, nats a token.
    """
    beside = with_low_rank(student, training)
    optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], training.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    losses: list[float] = []
    for step, batch in enumerate(batches(tokens, training)):
        with torch.no_grad():
            wanted = teacher(batch).logits.flatten(0, 1).log_softmax(-1)
        found = student(batch).logits.flatten(0, 1).log_softmax(-1)
        loss = functional.kl_div(found, wanted, log_target=True, reduction="batchmean")
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"step {step} of {training.steps}: {losses[-1]:.4f} nats a token", flush=True)
    return {path: module.branch() for path, module in beside.items()}, losses


def batches(tokens: np.ndarray, training: Training) -> Iterator[torch.Tensor]:
    """Token ids [batch, length] for every step: all pieces in a random order, then all of them in another one."""
    length = min(training.tokens, tokens.shape[1])
    whole = tokens[:, : tokens.shape[1] // length * length]
    pieces = torch.from_numpy(whole.reshape(-1, length).astype(np.int64))
    chance = torch.Generator().manual_seed(training.seed)
    wanted = training.steps * training.batch
    orders = [torch.randperm(len(pieces), generator=chance) for _ in range(math.ceil(wanted / len(pieces)))]
    for chosen in torch.cat(orders)[:wanted].split(training.batch):
        yield pieces[chosen]


def add_branches(model: ir.Model, branches: Mapping[str, Branch]) -> None:
    """Add ``(x A) B`` to the output of layers, which keeps its name.

    Args:
        model: changed in place.
        branches: by the path of the layer.
    """
    nodes = dict(layers_of(model))
    for path, branch in branches.items():
        _add_branch(model, nodes[path], branch)


def _add_branch(model: ir.Model, node: ir.Node, branch: Branch) -> None:
    (output,) = node.outputs
    stem, name = f"{node.name}/lora", output.name
    a, b = (
        add_initializer(model, f"{stem}.{letter}", ir.DataType.FLOAT, weight.shape, partial(_itself, weight))
        for letter, weight in (("A", branch.a), ("B", branch.b))
    )
    low = ir.node("MatMul", [node.inputs[0], a], name=f"{stem}/A/MatMul")
    high = ir.node("MatMul", [low.outputs[0], b], name=f"{stem}/B/MatMul")
    total = ir.node("Add", [output, high.outputs[0]], name=f"{stem}/Add")
    low.outputs[0].name, high.outputs[0].name = f"{stem}/A/output_0", f"{stem}/B/output_0"
    for user, index in list(output.uses()):
        if user is not total:
            user.replace_input_with(index, total.outputs[0])
    for value in (low.outputs[0], high.outputs[0], total.outputs[0]):
        value.type = ir.TensorType(ir.DataType.FLOAT)
    total.outputs[0].shape = high.outputs[0].shape = output.shape
    output.name = f"{stem}/beside"
    total.outputs[0].name = name
    model.graph.insert_after(node, [low, high, total])


def _itself(weight: np.ndarray) -> np.ndarray:
    return weight


def write_folder(candidate: ModelArtifact, branches: Mapping[str, Branch], to: Path) -> None:
    """The candidate with branches beside its layers, as a GenAI folder that loads.

    Raises:
        BuildFailed: when the graph does not load, or its logits are not finite.
    """
    graph = candidate.onnx_path()
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for file in candidate.files():
        if file.name != graph.name and not file.name.startswith(f"{graph.name}."):
            link_or_copy(file, to / file.relative_to(candidate.path))
    model = load_graph(graph)
    add_branches(model, branches)
    save_graph(model, to / graph.name)
    check_model(to)
