"""What each of Olive's passes means as axes of the search space, and what of it means nothing here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.quantize.block_format import BLOCK_SIZES
from olivine.search.planning.olive.workflow import OlivePass, mapping, sequence

#: Words that stand for "search it" and for "leave it at its default".
SEARCHABLE = ("SEARCHABLE_VALUES", "DEFAULT_SEARCHABLE_VALUES", "DEFAULT_SEARCH_VALUES")
DEFAULT = ("DEFAULT_VALUE", "DEFAULT")
#: What Olive searches of an axis where it is only told to search.
_SEARCHED: Mapping[str, tuple[Scalar, ...]] = {
    "precision": ("int8", "int4"),
    "block_size": (16, 32, 64, 128),
    "symmetric": (True, False),
    "fusion_level": ("none", "qkv", "full"),
    "reduce_range": (False, True),
    "lm_head": ("same", "fp32"),
}


@dataclass
class Meaning:
    """What a pass asks for.

    Attributes:
        axes: axis -> values; a later pass of a flow overrides an earlier one.
        usual: the same where no pass says otherwise.
        lost: (parameter, why it has no counterpart); an empty parameter stands for the whole pass.
        became: what the pass is here, in words.
    """

    axes: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    usual: dict[str, tuple[Scalar, ...]] = field(default_factory=dict)
    lost: list[tuple[str, str]] = field(default_factory=list)
    became: str = ""


class _Reader:
    """Parameters of one pass, each taken at most once; what nobody takes has no counterpart."""

    def __init__(self, one: OlivePass, searching: bool) -> None:
        self.left = {key: value for key, value in one.params.items() if value not in DEFAULT and value is not None}
        self.searching, self.meaning = searching and one.searched, Meaning()

    def take(self, *names: str) -> Any:
        """The value of the first of these names that is given."""
        found = [self.left.pop(name) for name in names if name in self.left]
        return found[0] if found else None

    def axis(self, axis: str, *names: str, known: Callable[[Any], Scalar | None], search: bool = False) -> None:
        """Make values of an axis of a parameter; with ``search``, also where it is not named and Olive would search."""
        name = next((name for name in names if name in self.left), names[0])
        given = self.take(*names)
        if given is None and not (search and self.searching):
            return
        if given is None or given in SEARCHABLE:
            self.meaning.axes[axis] = _SEARCHED[axis] if axis in _SEARCHED else LANGUAGE.axes[axis].values
            return
        support = given.get("support") if isinstance(given, dict) else given
        found = []
        for value in sequence(support):
            one = known(value)
            if one is None:
                self.lose(name, f"{value!r} is no value of {axis}: {', '.join(map(str, _values(axis)))}")
            else:
                found.append(one)
        if found:
            self.meaning.axes[axis] = tuple(dict.fromkeys(found))

    def lose(self, name: str, why: str) -> None:
        """Say why a parameter has no counterpart."""
        self.meaning.lost.append((name, why))

    def drop(self, why: str, *names: str) -> None:
        """Take parameters that have no counterpart, with one reason."""
        for name in names:
            if self.left.pop(name, None) is not None:
                self.lose(name, why)


def meaning(one: OlivePass, searching: bool) -> Meaning:
    """What a pass asks for; ``searching`` tells whether the workflow has a search strategy."""
    reader = _Reader(one, searching)
    known = _KINDS.get(one.kind)
    if known is None:
        reader.lose("", _REASONS.get(one.kind) or _reason(one.kind))
        return reader.meaning
    known(reader)
    reader.drop(_FILES, *_FILE_PARAMS)
    for name in reader.left:
        reader.lose(name, "olivine has no such setting of this step")
    return reader.meaning


def _block(value: Any) -> Scalar | None:
    if value == -1:
        return 128  # one scale a channel: the largest blocks whose kernels are fast
    return int(value) if value in BLOCK_SIZES and not isinstance(value, bool) else None


def _flag(value: Any) -> Scalar | None:
    return value if isinstance(value, bool) else None


def _bits(value: Any) -> Scalar | None:
    return {"4": "int4", "8": "int8"}.get(str(value))


def _level(value: Any) -> Scalar | None:
    words = {"fp32": 1, "fp16": 2, "bf16": 3, "int8": 4}
    found = words.get(str(value), value)
    return int(found) if found in LANGUAGE.axes["accuracy_level"].values and not isinstance(found, bool) else None


def _precision(value: Any) -> Scalar | None:
    word = {"uint4": "int4", "uint8": "int8", "float16": "fp16", "float32": "fp32"}.get(str(value), str(value))
    return word if word in LANGUAGE.axes["precision"].values else None


def _blocks(reader: _Reader, search: bool = False) -> None:
    """The parameters of block-wise weights, by all their names."""
    reader.axis(
        "block_size", "block_size", "group_size", "int4_block_size", "w_group_size", known=_block, search=search
    )
    symmetric = ("is_symmetric", "sym", "int4_is_symmetric", "symmetric")
    reader.axis("symmetric", *symmetric, known=_flag, search=search)
    reader.axis("accuracy_level", "accuracy_level", "int4_accuracy_level", known=_level)


def _model_builder(reader: _Reader) -> None:
    reader.meaning.became = "the export, by the same model builder, and the quantization after it"
    reader.left |= {key: value for key, value in mapping(reader.take("extra_options")).items() if value is not None}
    reader.axis("precision", "precision", known=_precision)
    if (precision := reader.meaning.axes.pop("precision", None)) is not None:
        reader.meaning.usual["precision"] = precision  # a checkpoint that was quantized before is exported as it is
    _blocks(reader)
    algorithm = str(reader.take("int4_algo_config", "algo_config") or "default")
    words = {"default": "rtn", "rtn": "rtn", "rtn_last": "rtn"}
    reader.meaning.usual["algorithm"] = (words.get(algorithm, "k_quant"),)
    if algorithm.endswith(("_last", "_mixed")):
        reader.meaning.axes["lm_head"] = ("int8",)
    if algorithm.endswith(("_mixed", "_linear")):
        reader.lose("int4_algo_config", "its fixed list of 8-bit layers; precision: mixed learns which need them")
    reader.axis("graph_capture", "enable_cuda_graph", known=lambda v: _flag(bool(v)))
    reader.axis("prune_head", "prune_lm_head", known=lambda v: _flag(bool(v)))
    if "Gather" in sequence(reader.take("int4_op_types_to_quantize", "op_types_to_quantize")):
        reader.meaning.axes["embedding"] = ("int4",)
    reader.drop("the folder is always whole: embedding, decoder and head", "exclude_embeds", "exclude_lm_head")
    reader.drop("search options belong to whoever generates; the checkpoint's own are exported", "search")
    reader.drop("weights are MatMulNBits, which all its providers run", "use_qdq", "int4_use_qdq")
    reader.drop("each projection is fused as fusion_level says", "disable_qkv_fusion", "unpack_matmul")


def _conversion(reader: _Reader) -> None:
    reader.meaning.became = "the export, which the model builder always does"
    why = "the model builder knows the shapes of a decoder and its operator set"
    reader.drop(why, *[name for name in reader.left if name not in _FILE_PARAMS])


def _fusion(reader: _Reader) -> None:
    reader.meaning.became = "fusion_level: the model builder's graphs come fused, what is left are merged projections"
    if reader.searching:
        reader.meaning.axes["fusion_level"] = _SEARCHED["fusion_level"]
    half = reader.take("float16", "fp16")
    if half is True:
        reader.meaning.axes["precision"] = ("fp16",)
    reader.drop("attention is GroupQueryAttention in every export", "use_gqa", "replace_attn_mask_input_with_seq_len")
    reader.drop(
        "read from the checkpoint", "model_type", "num_heads", "num_key_value_heads", "hidden_size", "num_kv_heads"
    )
    why = "ONNX Runtime optimizes at load instead: axis optimization_level"
    reader.drop(why, "opt_level", "only_onnxruntime", "use_gpu", "optimization_options")
    reader.drop("the model builder chooses the types of inputs and outputs", "keep_io_types", "input_int32")


def _dynamic(reader: _Reader) -> None:
    reader.meaning.became = "int8 weights with activations: int8 in all layers but down_proj, which suffers most"
    reader.meaning.axes |= {"precision": ("int8",), "activations": ("int8",)}
    reader.axis("reduce_range", "reduce_range", known=_flag, search=True)
    reader.drop("weights have a scale a channel where activations are int8, a scale a block elsewhere", "per_channel")
    reader.drop("int8 activations go with int8 weights", "weight_type", "quant_mode", "activation_type")
    why = "layers are named by dynamic_layers: all, not_down, attention, mlp, mlp_in"
    reader.drop(why, "op_types_to_quantize", "nodes_to_quantize", "nodes_to_exclude", "op_types_to_exclude")
    reader.drop("only constant weights are quantized", "MatMulConstBOnly", "extra_options")


def _static(reader: _Reader) -> None:
    _dynamic(reader)
    reader.meaning.became += "; ranges are taken from each input as it comes"
    why = "static ranges of activations have no counterpart: a decoder's outliers differ by token"
    reader.drop(
        why,
        "data_config",
        "calibrate_method",
        "calibration_data_reader",
        "quant_format",
        "prepare_qnn_config",
        "activation_symmetric",
        "calibration_providers",
        "approach",
        "data_dir",
        "dataloader_func",
        "user_script",
        "script_dir",
        "batch_size",
        "weight_symmetric",
        "quant_preprocess",
        "tuning_criterion",
        "metric",
        "ActivationSymmetric",
        "WeightSymmetric",
        "precision",
    )


def _weights(algorithm: str) -> Callable[[_Reader], None]:
    def read(reader: _Reader) -> None:
        reader.meaning.became = "block-wise weights: precision, algorithm, block_size"
        reader.meaning.usual["precision"] = ("int4",)
        reader.axis("precision", "bits", "w_bit", "w_bits", known=_bits)
        _blocks(reader)
        named = str(reader.take("algorithm", "weight_only_quant_method") or algorithm).lower()
        words = {"rtn": "rtn", "default": "rtn", "gptq": "gptq", "k_quant": "k_quant", "hqq": "k_quant"}
        if named not in ("rtn", "default", "gptq", "k_quant"):
            reader.lose(
                "" if named == algorithm else "algorithm", f"{named.upper()} is no algorithm here; k_quant stands in"
            )
        reader.meaning.axes["algorithm"] = (words.get(named, "k_quant"),)
        _head(reader)
        reader.drop(
            "MatMulNBits is what the kernels of all providers read", "quant_format", "weight_only_quant_configs"
        )
        reader.drop("blocks lie along the input of each product", "axis", "quant_axes", "quantize_axis")
        if (
            "Gather" in sequence(reader.take("op_types_to_quantize", "quantized_nodes"))
            or reader.take("embeds") is True
        ):
            reader.meaning.axes["embedding"] = reader.meaning.axes.get("precision", ("int4",))

    return read


def _learned(reader: _Reader) -> None:
    """GPTQ and what learns from text as it does."""
    reader.meaning.became = "algorithm: gptq, which learns from the calibrate part of evaluation.text"
    reader.meaning.usual["precision"] = ("int4",)
    reader.axis("precision", "bits", "wbits", "w_bit", "w_bits", known=_bits, search=True)
    _blocks(reader, search=True)
    reader.meaning.axes["algorithm"] = ("gptq",)
    _head(reader)
    reader.take("data_config", "calibration_data_config")  # becomes evaluation.text
    reader.drop(
        "activation order with static groups, the damping and the blocks of GPTQ are fixed",
        "desc_act",
        "act_order",
        "damp_percent",
        "static_groups",
        "true_sequential",
        "nsamples",
        "seqlen",
        "layers_block_name",
        "blocksize",
    )
    reader.drop("precision: mixed learns which layers need 8 bits", "overrides", "modules_to_not_convert", "dynamic")


def _awq(reader: _Reader) -> None:
    _learned(reader)
    reader.lose("", "AWQ is no algorithm here; gptq, which learns from the same text, stands in")
    reader.drop(
        "a setting of AWQ's",
        "version",
        "zero_point",
        "duo_scaling",
        "modules_to_not_convert",
        "model_class",
        "input_model_class",
    )


def _head(reader: _Reader) -> None:
    given = reader.take("lm_head")
    if given is False:
        reader.meaning.axes["lm_head"] = ("fp32",)
    elif given in SEARCHABLE:
        reader.meaning.axes["lm_head"] = _SEARCHED["lm_head"]
    excluded = [str(node) for node in sequence(reader.take("nodes_to_exclude", "excluded_modules"))]
    if any("lm_head" in node for node in excluded):
        reader.meaning.axes["lm_head"] = ("fp32",)
    if others := [node for node in excluded if "lm_head" not in node]:
        reader.lose(
            "nodes_to_exclude", f"single layers can't be left out ({others[0]} ...); precision: mixed gives them 8 bits"
        )


def _mixed(reader: _Reader) -> None:
    algorithm, share = str(reader.take("algorithm") or ""), reader.take("ratio")
    if algorithm == "high_precision_lm_head":
        reader.meaning.became = "lm_head: int8"
        reader.meaning.axes["lm_head"] = ("int8",)
    else:
        reader.meaning.became = "precision: mixed, whose layers are chosen by a backward pass over calibration text"
        reader.meaning.axes["precision"] = ("mixed",)
        if isinstance(share, int | float) and 0 <= share <= 1:
            reader.meaning.axes["int8_share"] = (round(1 - float(share), 6),)
        if algorithm not in ("", "kld_gradient"):
            reader.lose("algorithm", f"'{algorithm}'; here the expected divergence decides, as kld_gradient's does")
    _blocks(reader)
    reader.drop(
        "of a mixed model the rest has 4 bits, and those that are kept 8",
        "bits",
        "high_bits",
        "high_sym",
        "high_group_size",
    )
    reader.drop("the head has an axis of its own, lm_head", "lm_head")


def _rotate(reader: _Reader) -> None:
    reader.meaning.became = "rotate: true (QuaRot's R1)"
    reader.meaning.axes["rotate"] = (True,)
    why = "the rotation alone is applied, offline; what quantizes afterwards is a pass of its own"
    reader.drop(why, *[name for name in reader.left if name != "rotate"])
    reader.take("rotate")


def _half(reader: _Reader) -> None:
    reader.meaning.became = "precision: fp16"
    reader.meaning.axes["precision"] = ("fp16",)
    reader.drop("a float export has one type", *reader.left)


def _session(reader: _Reader) -> None:
    reader.meaning.became = "the axes threads, spinning and optimization_level, written into genai_config.json"
    levels = {0: "disable", 1: "basic", 2: "extended", 99: "all"}
    reader.axis(
        "threads",
        "intra_thread_num_list",
        "intra_op_thread_count",
        "cpu_cores",
        known=lambda v: v if isinstance(v, int) else None,
    )
    reader.axis("optimization_level", "opt_level_list", known=lambda v: levels.get(v))
    reader.axis("graph_capture", "enable_cuda_graph", known=lambda v: _flag(bool(v)))
    reader.drop(
        "a decoder's nodes depend on each other: there is nothing to run beside",
        "execution_mode_list",
        "inter_thread_num_list",
        "inter_op_thread_count",
    )
    reader.drop("the provider is an axis of its own", "providers_list", "execution_provider", "provider_options_list")
    reader.drop("ONNX Runtime GenAI binds inputs and outputs itself", "io_bind", "device", "trt_fp16_enable")
    reader.drop(
        "every candidate is timed on the study's own prompt",
        "data_config",
        "data_dir",
        "dataloader_func",
        "batch_size",
        "input_names",
        "input_shapes",
        "input_types",
        "force_evaluate_other_eps",
    )


_FILES = "how the files of a graph are cut is no choice: one graph, one file of weights"
_FILE_PARAMS = (
    "save_as_external_data",
    "all_tensors_to_one_file",
    "external_data_name",
    "size_threshold",
    "convert_attribute",
    "save_format",
)
_KINDS: Mapping[str, Callable[[_Reader], None]] = {
    "modelbuilder": _model_builder,
    **dict.fromkeys(("onnxconversion", "optimumconversion", "mobiusbuilder", "torchtraceexport"), _conversion),
    "orttransformersoptimization": _fusion,
    **dict.fromkeys(("ortsessionparamstuning", "ortperftuning", "onnxsessionparamstuning"), _session),
    **dict.fromkeys(("onnxdynamicquantization", "incdynamicquantization"), _dynamic),
    **dict.fromkeys(
        ("onnxquantization", "onnxstaticquantization", "incquantization", "incstaticquantization"), _static
    ),
    **dict.fromkeys(
        ("onnxmatmul4quantizer", "onnxblockwisertnquantization", "onnx4bitquantizer", "rtn"), _weights("rtn")
    ),
    **dict.fromkeys(("onnxkquantquantization", "kquant"), _weights("k_quant")),
    **dict.fromkeys(("onnxhqqquantization", "hqq"), _weights("hqq")),
    **dict.fromkeys(("gptq", "gptqquantizer", "gptqmodel"), _learned),
    **dict.fromkeys(("autoawqquantizer", "awq", "nvmodeloptquantization", "autoround"), _awq),
    "selectivemixedprecision": _mixed,
    **dict.fromkeys(("quarot", "spinquant"), _rotate),
    **dict.fromkeys(("onnxfloattofloat16", "ortmixedprecision"), _half),
}
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("lora", "qlora", "loftq", "dora", "loha", "lokr"), "fine-tuning: 'olivine finetune' comes before a study"
    ),
    "mergeadapterweights": "an adapter has to be merged into its checkpoint before a study",
    "extractadapters": "adapters stay no inputs of the graph: merge them into the checkpoint",
    "onnxpeepholeoptimizer": "the model builder's graphs come without what it removes",
    "onnxiofloat16tofloat32": "the model builder chooses the types of inputs and outputs",
    "graphsurgeries": "single edits of the graph; a tied embedding is quantized by the axis embedding",
    "matmulnbitstoqdq": "weights stay MatMulNBits, which the kernels of all providers read",
    "dynamictofixedshape": "lengths stay dynamic: prompts differ",
    "mixedprecisionoverrides": "precision: mixed learns which layers need more bits",
    **dict.fromkeys(("sparsegpt", "slicegpt", "torchmlpsparsity", "torchsparse"), "pruning of weights is no pass here"),
    **dict.fromkeys(("splitmodel", "capturesplitinfo", "composeonnxmodels", "staticllm"), "a model stays one graph"),
    "quantizationawaretraining": "training is no pass here",
}


def _reason(kind: str) -> str:
    for mark, what in (
        ("openvino", "Intel's"),
        ("qnn", "Qualcomm's"),
        ("snpe", "Qualcomm's"),
        ("vitis", "AMD's"),
        ("quark", "AMD's"),
    ):
        if mark in kind:
            return f"{what} own compiler and formats are no pass here; provider tells where a model runs"
    return "no pass of olivine's does what it does"


def _values(axis: str) -> tuple[object, ...]:
    if LANGUAGE.axes[axis].kind == "bool":
        return ("true", "false")
    return LANGUAGE.axes[axis].values or ("numbers",)
