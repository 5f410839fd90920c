"""Olive's passes as axes of the search space, and reasons for those that have no counterpart."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from olivine.search.planning.olive import quantizers
from olivine.search.planning.olive.pass_reader import SEARCHED, Meaning, PassReader, loose_flag, precision
from olivine.search.planning.olive.workflow import OlivePass, mapping, sequence

#: Parameters of any pass that say how the files of a graph are cut.
_FILE_PARAMS = (
    "save_as_external_data",
    "all_tensors_to_one_file",
    "external_data_name",
    "size_threshold",
    "convert_attribute",
    "save_format",
)


def meaning(olive_pass: OlivePass, searching: bool) -> Meaning:
    """The axes that a pass stands for; ``searching`` tells whether its workflow has a search strategy."""
    reader = PassReader(olive_pass, searching)
    read = _READERS.get(olive_pass.kind)
    if read is None:
        return Meaning(lost=(("", _REASONS.get(olive_pass.kind) or _vendor_reason(olive_pass.kind)),))
    read(reader)
    reader.drop("how the files of a graph are cut is no choice: one graph, one file of weights", *_FILE_PARAMS)
    return reader.meaning()


def _model_builder(reader: PassReader) -> None:
    reader.became = "the export, by the same model builder, and the quantization after it"
    reader.left |= {key: value for key, value in mapping(reader.take("extra_options")).items() if value is not None}
    reader.axis("precision", "precision", convert=precision)
    if (precisions := reader.axes.pop("precision", None)) is not None:
        reader.fallback["precision"] = precisions  # a checkpoint that was quantized before is exported as it is
    reader.blocks()
    algorithm = str(reader.take("int4_algo_config", "algo_config") or "default")
    words = {"default": "rtn", "rtn": "rtn", "rtn_last": "rtn"}
    reader.fallback["algorithm"] = (words.get(algorithm, "k_quant"),)
    if algorithm.endswith(("_last", "_mixed")):
        reader.axes["lm_head"] = ("int8",)
    if algorithm.endswith(("_mixed", "_linear")):
        reader.lose("int4_algo_config", "its fixed list of 8-bit layers; precision: mixed learns which need them")
    reader.axis("graph_capture", "enable_cuda_graph", convert=loose_flag)
    reader.axis("prune_head", "prune_lm_head", convert=loose_flag)
    if "Gather" in sequence(reader.take("int4_op_types_to_quantize", "op_types_to_quantize")):
        reader.axes["embedding"] = ("int4",)
    reader.drop("the folder is always whole: embedding, decoder and head", "exclude_embeds", "exclude_lm_head")
    reader.drop("search options belong to whoever generates; the checkpoint's own are exported", "search")
    reader.drop("weights are MatMulNBits, which all its providers run", "use_qdq", "int4_use_qdq")
    reader.drop("each projection is fused as fusion_level says", "disable_qkv_fusion", "unpack_matmul")


def _conversion(reader: PassReader) -> None:
    reader.became = "the export, which the model builder always does"
    why = "the model builder knows the shapes of a decoder and its operator set"
    reader.drop(why, *[name for name in reader.left if name not in _FILE_PARAMS])


def _fusion(reader: PassReader) -> None:
    reader.became = "fusion_level: the model builder's graphs come fused, what is left are merged projections"
    if reader.searching:
        reader.axes["fusion_level"] = SEARCHED["fusion_level"]
    if reader.take("float16", "fp16") is True:
        reader.axes["precision"] = ("fp16",)
    reader.drop("attention is GroupQueryAttention in every export", "use_gqa", "replace_attn_mask_input_with_seq_len")
    shape = ("model_type", "num_heads", "num_key_value_heads", "hidden_size", "num_kv_heads")
    reader.drop("read from the checkpoint", *shape)
    why = "ONNX Runtime optimizes at load instead: axis optimization_level"
    reader.drop(why, "opt_level", "only_onnxruntime", "use_gpu", "optimization_options")
    reader.drop("the model builder chooses the types of inputs and outputs", "keep_io_types", "input_int32")


def _rotation(reader: PassReader) -> None:
    reader.became = "rotate: true (QuaRot's R1)"
    reader.axes["rotate"] = (True,)
    why = "the rotation alone is applied, offline; what quantizes afterwards is a pass of its own"
    reader.drop(why, *[name for name in reader.left if name != "rotate"])
    reader.take("rotate")


def _half_precision(reader: PassReader) -> None:
    reader.became = "precision: fp16"
    reader.axes["precision"] = ("fp16",)
    reader.drop("a float export has one type", *reader.left)


def _session_options(reader: PassReader) -> None:
    reader.became = "the axes threads, spinning and optimization_level, written into genai_config.json"
    levels = {0: "disable", 1: "basic", 2: "extended", 99: "all"}
    counts = ("intra_thread_num_list", "intra_op_thread_count", "cpu_cores")
    reader.axis("threads", *counts, convert=lambda value: value if isinstance(value, int) else None)
    reader.axis("optimization_level", "opt_level_list", convert=levels.get)
    reader.axis("graph_capture", "enable_cuda_graph", convert=loose_flag)
    why = "a decoder's nodes depend on each other: there is nothing to run beside"
    reader.drop(why, "execution_mode_list", "inter_thread_num_list", "inter_op_thread_count")
    why = "the provider is an axis of its own"
    reader.drop(why, "providers_list", "execution_provider", "provider_options_list")
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


#: Readers of Olive's classes, in small letters without underscores.
_READERS: Mapping[str, Callable[[PassReader], None]] = {
    "modelbuilder": _model_builder,
    **dict.fromkeys(("onnxconversion", "optimumconversion", "mobiusbuilder", "torchtraceexport"), _conversion),
    "orttransformersoptimization": _fusion,
    **dict.fromkeys(("ortsessionparamstuning", "ortperftuning", "onnxsessionparamstuning"), _session_options),
    **dict.fromkeys(("onnxdynamicquantization", "incdynamicquantization"), quantizers.dynamic_int8),
    **dict.fromkeys(
        ("onnxquantization", "onnxstaticquantization", "incquantization", "incstaticquantization"),
        quantizers.static_int8,
    ),
    **dict.fromkeys(
        ("onnxmatmul4quantizer", "onnxblockwisertnquantization", "onnx4bitquantizer", "rtn"),
        quantizers.weights_by("rtn"),
    ),
    **dict.fromkeys(("onnxkquantquantization", "kquant"), quantizers.weights_by("k_quant")),
    **dict.fromkeys(("onnxhqqquantization", "hqq"), quantizers.weights_by("hqq")),
    **dict.fromkeys(("gptq", "gptqquantizer", "gptqmodel"), quantizers.gptq),
    **dict.fromkeys(("autoawqquantizer", "awq", "nvmodeloptquantization", "autoround"), quantizers.awq),
    "selectivemixedprecision": quantizers.mixed_precision,
    **dict.fromkeys(("quarot", "spinquant"), _rotation),
    **dict.fromkeys(("onnxfloattofloat16", "ortmixedprecision"), _half_precision),
}
_REASONS: Mapping[str, str] = {
    **dict.fromkeys(
        ("lora", "qlora", "loftq", "dora", "loha", "lokr"), "fine-tuning: 'olivine finetune' comes before a study"
    ),
    "mergeadapterweights": "merge an adapter before a study, or 'olivine export STUDY --adapter NAME=DIR'",
    "extractadapters": "'olivine export STUDY --adapter NAME=DIR' makes them inputs of a trial's graph",
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
_VENDORS = {"openvino": "Intel's", "qnn": "Qualcomm's", "snpe": "Qualcomm's", "vitis": "AMD's", "quark": "AMD's"}


def _vendor_reason(kind: str) -> str:
    for mark, owner in _VENDORS.items():
        if mark in kind:
            return f"{owner} own compiler and formats are no pass here; provider tells where a model runs"
    return "no pass of olivine's does what it does"
