"""Olive's passes that quantize, as axes of the search space."""

from __future__ import annotations

from collections.abc import Callable

from olivine.search.planning.olive.pass_reader import PassReader, flag, precision_of_bits
from olivine.search.planning.olive.workflow import sequence

#: Algorithms of integer weights -> olivine's.
_ALGORITHMS = {"rtn": "rtn", "default": "rtn", "gptq": "gptq", "k_quant": "k_quant"}


def dynamic_int8(reader: PassReader) -> None:
    """Integer weights and activations whose ranges are taken at run time."""
    reader.became = "int8 weights with activations: int8 in all layers but down_proj, which suffers most"
    reader.axes |= {"precision": ("int8",), "activations": ("int8",)}
    reader.axis("reduce_range", "reduce_range", convert=flag, search=True)
    reader.drop("weights have a scale a channel where activations are int8, a scale a block elsewhere", "per_channel")
    reader.drop("int8 activations go with int8 weights", "weight_type", "quant_mode", "activation_type")
    why = "layers are named by dynamic_layers: all, not_down, attention, mlp, mlp_in"
    reader.drop(why, "op_types_to_quantize", "nodes_to_quantize", "nodes_to_exclude", "op_types_to_exclude")
    reader.drop("only constant weights are quantized", "MatMulConstBOnly", "extra_options")


def static_int8(reader: PassReader) -> None:
    """Integer activations with fixed ranges, for which dynamic ones stand in."""
    dynamic_int8(reader)
    reader.became += "; ranges are taken from each input as it comes"
    reader.drop(
        "static ranges of activations have no counterpart: a decoder's outliers differ by token",
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


def weights_by(algorithm: str) -> Callable[[PassReader], None]:
    """The reader of a pass that quantizes weights in blocks, by an algorithm of Olive's."""

    def read(reader: PassReader) -> None:
        reader.became = "block-wise weights: precision, algorithm, block_size"
        reader.fallback["precision"] = ("int4",)
        reader.axis("precision", "bits", "w_bit", "w_bits", convert=precision_of_bits)
        reader.blocks()
        named = str(reader.take("algorithm", "weight_only_quant_method") or algorithm).lower()
        if named not in _ALGORITHMS:
            parameter = "" if named == algorithm else "algorithm"
            reader.lose(parameter, f"{named.upper()} is no algorithm here; k_quant stands in")
        reader.axes["algorithm"] = (_ALGORITHMS.get(named, "k_quant"),)
        reader.head()
        why = "MatMulNBits is what the kernels of all providers read"
        reader.drop(why, "quant_format", "weight_only_quant_configs")
        reader.drop("blocks lie along the input of each product", "axis", "quant_axes", "quantize_axis")
        embedding = "Gather" in sequence(reader.take("op_types_to_quantize", "quantized_nodes"))
        if embedding or reader.take("embeds") is True:
            reader.axes["embedding"] = reader.axes.get("precision", ("int4",))

    return read


def gptq(reader: PassReader) -> None:
    """GPTQ, which learns from text."""
    reader.became = "algorithm: gptq, which learns from the calibrate part of evaluation.text"
    reader.fallback["precision"] = ("int4",)
    reader.axis("precision", "bits", "wbits", "w_bit", "w_bits", convert=precision_of_bits, search=True)
    reader.blocks(search=True)
    reader.axes["algorithm"] = ("gptq",)
    reader.head()
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


def awq(reader: PassReader) -> None:
    """AWQ and others that learn from text, for which GPTQ stands in."""
    gptq(reader)
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


def mixed_precision(reader: PassReader) -> None:
    """Layers that keep 8 bits."""
    algorithm, share = str(reader.take("algorithm") or ""), reader.take("ratio")
    if algorithm == "high_precision_lm_head":
        reader.became = "lm_head: int8"
        reader.axes["lm_head"] = ("int8",)
    else:
        reader.became = "precision: mixed, whose layers are chosen by a backward pass over calibration text"
        reader.axes["precision"] = ("mixed",)
        if isinstance(share, int | float) and 0 <= share <= 1:
            reader.axes["int8_share"] = (round(1 - float(share), 6),)
        if algorithm not in ("", "kld_gradient"):
            reader.lose("algorithm", f"'{algorithm}'; here the expected divergence decides, as kld_gradient's does")
    reader.blocks()
    why = "of a mixed model the rest has 4 bits, and those that are kept 8"
    reader.drop(why, "bits", "high_bits", "high_sym", "high_group_size")
    reader.drop("the head has an axis of its own, lm_head", "lm_head")
