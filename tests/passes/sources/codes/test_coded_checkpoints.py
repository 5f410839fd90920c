from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tiny_coded import Codes, Packer, awq, coded_checkpoint, gptq_v1, gptq_v2, int_quantized, pack_quantized, quantized

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, SourceError
from olivine.passes.graph import load_graph
from olivine.passes.parity.graph_run import GraphRun
from olivine.passes.pipeline import build
from olivine.passes.sources.codes.layouts import WrongCodes, decode
from olivine.passes.sources.codes.scheme import read_scheme
from olivine.passes.sources.source import resolve
from olivine.passes.store.cache import Cache

GPTQ = {"quant_method": "gptq", "group_size": 32, "desc_act": False, "sym": False}


@dataclass(frozen=True)
class Format:
    """A format: its packer, its quantization_config, and how weights are quantized for it."""

    pack: Packer
    about: dict[str, Any]
    bits: int = 4
    group: int = 32
    symmetric: bool = False
    act_order: bool = False

    def codes(self, name: str, weight: np.ndarray) -> Codes | None:
        if name == "lm_head.weight":
            return None
        k = weight.shape[1]
        group = self.group or k
        groups = np.arange(k) // group
        if self.act_order:  # q, k and v read the same inputs, and so share their order
            groups = np.random.default_rng(k).permutation(groups)
        return quantized(weight, self.bits, group, symmetric=self.symmetric, groups=groups)


def compressed(word: str, bits: int, group: int | None) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "group_size": group, "strategy": "group" if group else "channel"}
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    return {"quant_method": "compressed-tensors", "format": word, "config_groups": groups, "ignore": ["lm_head"]}


FORMATS = {
    "awq": Format(awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}),
    "gptq v1": Format(gptq_v1, {**GPTQ, "bits": 4}),
    "gptq v1 int8": Format(gptq_v1, {**GPTQ, "bits": 8}, bits=8),
    "gptq v1 int2": Format(gptq_v1, {**GPTQ, "bits": 2}, bits=2),
    "gptq v2 int3": Format(gptq_v2, {**GPTQ, "bits": 3, "checkpoint_format": "gptq_v2"}, bits=3),
    "gptq v2 act-order": Format(
        gptq_v2, {**GPTQ, "bits": 4, "desc_act": True, "checkpoint_format": "gptq_v2"}, act_order=True
    ),
    "auto-round": Format(
        gptq_v1,
        {"quant_method": "auto-round", "bits": 4, "group_size": 32, "packing_format": "auto_round:auto_gptq"},
        symmetric=True,
    ),
    "pack int4": Format(pack_quantized, compressed("pack-quantized", 4, 32), symmetric=True),
    "pack int4 with zeros": Format(pack_quantized, compressed("pack-quantized", 4, 32)),
    "pack int8 a row": Format(pack_quantized, compressed("pack-quantized", 8, None), bits=8, group=0, symmetric=True),
    "int8 a row": Format(int_quantized, compressed("int-quantized", 8, None), bits=8, group=0, symmetric=True),
}


@pytest.fixture(params=FORMATS)
def form(request: pytest.FixtureRequest) -> Format:
    return FORMATS[request.param]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("coded") / "cache")


def write(tiny_llama: Path, to: Path, form: Format) -> dict[str, np.ndarray]:
    return coded_checkpoint(tiny_llama, to, form.pack, form.about, form.codes)


def changed(folder: Path, change: Any) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def logits(folder: Path) -> np.ndarray:
    ids = np.arange(3, 40)
    return np.concatenate(list(GraphRun(folder).logits(ids, [len(ids)])))


def test_float_weights_are_those_that_the_codes_stand_for(tiny_llama: Path, tmp_path: Path, form: Format) -> None:
    floats = write(tiny_llama, tmp_path / "coded", form)
    (tmp_path / "to").mkdir()
    source = resolve(str(tmp_path / "coded"))
    assert source.materialize(tmp_path / "to") == {"checkpoint", "codes"}
    written = load_file(tmp_path / "to" / "model.safetensors")
    assert written.keys() == floats.keys()
    for name, array in floats.items():
        np.testing.assert_array_equal(written[name], array, err_msg=name)
    assert "quantization_config" not in json.loads((tmp_path / "to" / "config.json").read_text())


def test_graph_with_the_codes_gives_the_logits_of_the_floats(
    tiny_llama: Path, tmp_path: Path, form: Format, cache: Cache
) -> None:
    write(tiny_llama, tmp_path / "coded", form)
    source = resolve(str(tmp_path / "coded"))
    plain = build(source, LANGUAGE.compose({"precision": "fp32"}), cache).artifact
    coded = build(source, LANGUAGE.compose({"precision": "as_it_came", "accuracy_level": 0}), cache).artifact
    nodes = [node.op_type for node in load_graph(coded.onnx_path()).graph]
    assert nodes.count("MatMulNBits") == 2 * 5  # qkv merged, o, gate, up, down; the head stays float
    assert nodes.count("MatMul") == 1
    assert coded.model_bytes() < plain.model_bytes()
    np.testing.assert_allclose(logits(coded.path), logits(plain.path), atol=1e-4)


def test_biases_of_zeros_go_where_the_architecture_has_none(
    make_tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    """As AutoGPTQ saves Qwen2: biases of q, k and v are the model's own, that of o_proj is none."""
    form = FORMATS["gptq v1"]
    floats = write(make_tiny_checkpoint(tmp_path / "qwen2", "qwen2"), tmp_path / "coded", form)
    name = "model.layers.0.self_attn.{}.bias"

    def add(tensors: dict[str, np.ndarray]) -> None:
        tensors[name.format("o_proj")] = np.zeros(64, np.float16)
        tensors[name.format("k_proj")] = np.zeros_like(tensors[name.format("k_proj")])

    changed(tmp_path / "coded", add)
    (tmp_path / "to").mkdir()
    resolve(str(tmp_path / "coded")).materialize(tmp_path / "to")
    assert load_file(tmp_path / "to" / "model.safetensors").keys() == floats.keys()


def test_source_says_what_its_base_is(tiny_llama: Path, tmp_path: Path) -> None:
    write(tiny_llama, tmp_path / "coded", FORMATS["awq"])
    source = resolve(str(tmp_path / "coded"))
    assert source.codes == "AWQ int4 group 32"
    assert source.about()["notes"] == ["base: float32, dequantized from AWQ int4 group 32"]
    floats = sum(array.size for array in load_file(tiny_llama / "model.safetensors").values())
    assert source.weight_bytes == 4 * floats


def test_parts_in_different_orders_are_not_merged(tiny_llama: Path, tmp_path: Path, cache: Cache) -> None:
    form = FORMATS["gptq v2 act-order"]

    def codes(name: str, weight: np.ndarray) -> Codes | None:
        order = np.random.default_rng(sum(map(ord, name))).permutation(np.arange(weight.shape[1]) // 32)
        return None if name == "lm_head.weight" else quantized(weight, 4, 32, symmetric=False, groups=order)

    coded_checkpoint(tiny_llama, tmp_path / "coded", form.pack, form.about, codes)
    source = resolve(str(tmp_path / "coded"))
    with pytest.raises(PassRefused, match=r"layers\.0/qkv_proj: .* Use fusion_level: none"):
        build(source, LANGUAGE.compose({"precision": "as_it_came"}), cache)
    choice = {"precision": "as_it_came", "fusion_level": "none", "accuracy_level": 0}
    plain = build(source, LANGUAGE.compose({"precision": "fp32", "fusion_level": "none"}), cache).artifact
    coded = build(source, LANGUAGE.compose(choice), cache).artifact
    np.testing.assert_allclose(logits(coded.path), logits(plain.path), atol=1e-4)


def test_head_that_came_as_floats_may_be_quantized(tiny_llama: Path, tmp_path: Path, cache: Cache) -> None:
    write(tiny_llama, tmp_path / "coded", FORMATS["awq"])
    choice = {"precision": "as_it_came", "lm_head": "int8"}
    coded = build(resolve(str(tmp_path / "coded")), LANGUAGE.compose(choice), cache).artifact
    products = [node for node in load_graph(coded.onnx_path()).graph if node.op_type.startswith("MatMul")]
    assert [node.attributes["bits"].as_int() for node in products] == [4] * 10 + [8]


def test_float_checkpoint_has_nothing_to_keep(tiny_llama: Path, cache: Cache) -> None:
    with pytest.raises(PassRefused, match="requires codes, which a checkpoint has"):
        build(resolve(str(tiny_llama)), LANGUAGE.compose({"precision": "as_it_came"}), cache)


def test_missing_zero_points_are_named_with_their_file(tiny_llama: Path, tmp_path: Path) -> None:
    write(tiny_llama, tmp_path / "coded", FORMATS["awq"])
    changed(tmp_path / "coded", lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.qzeros"))
    (tmp_path / "to").mkdir()
    with pytest.raises(SourceError, match=r"model\.safetensors: model\.layers\.1\.mlp\.up_proj\.qzeros is missing"):
        resolve(str(tmp_path / "coded")).materialize(tmp_path / "to")


def test_shape_that_does_not_fit_the_groups_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    write(tiny_llama, tmp_path / "coded", FORMATS["gptq v1"])
    name = "model.layers.0.mlp.down_proj.scales"

    def cut(tensors: dict[str, np.ndarray]) -> None:
        tensors[name] = tensors[name][:3].copy()

    changed(tmp_path / "coded", cut)
    (tmp_path / "to").mkdir()
    with pytest.raises(SourceError, match=r"model\.safetensors: model\.layers\.0\.mlp\.down_proj\.\w+ has"):
        resolve(str(tmp_path / "coded")).materialize(tmp_path / "to")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_tensors_of_any_other_shape_are_one_error(tiny_llama: Path, name: str) -> None:
    weight = load_file(tiny_llama / "model.safetensors")["model.layers.0.mlp.up_proj.weight"]
    form = FORMATS[name]
    codes = form.codes("up_proj.weight", weight)
    assert codes is not None
    parts = form.pack(codes)
    layout = read_scheme({"quantization_config": form.about}, "x").layout  # type: ignore[union-attr]
    for part in parts:
        scalars = () if name == "int8 a row" and part == "weight_scale" else ((), (1,))  # one scale for all is a form
        for shape in (*scalars, (3, 5), (2, 2, 2)):
            with pytest.raises(WrongCodes):
                decode(layout, {**parts, part: np.zeros(shape, parts[part].dtype)}, form.bits)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"quant_method": "exl2"}, "unknown quantization_config.quant_method 'exl2'. These are read: awq"),
        ({"quant_method": "bitsandbytes"}, "nf4 and int8 codes lie on no grid .* Save it as floats"),
        ({"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemv"}, "this is gemv in 4"),
        ({"quant_method": "gptq", "bits": "4", "group_size": 32}, "quantization_config.bits is '4'"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 32, "packing_format": "x"}, "packing_format 'x'"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "format 'float-quantized' of compressed"),
    ],
)
def test_what_is_not_read_is_refused_with_the_cure(
    tiny_llama: Path, tmp_path: Path, about: dict[str, Any], message: str
) -> None:
    write(tiny_llama, tmp_path / "coded", Format(awq, about))
    with pytest.raises(SourceError, match=message):
        resolve(str(tmp_path / "coded"))
