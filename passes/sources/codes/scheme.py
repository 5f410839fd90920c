"""Scheme: the quantization that a config.json states, as one of the layouts that are read code by code.

Sources: AutoAWQ's ``WQLinear_GEMM``, AutoGPTQ's and GPTQModel's ``QuantizeConfig`` (``checkpoint_format`` gptq and
gptq_v2), AutoRound's ``packing_format``, and the schema of compressed-tensors (``QuantizationConfig``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from olivine.passes.errors import SourceError

Layout = Literal["awq", "gptq", "gptq_v2", "pack", "int"]
READ = "awq (gemm), gptq, gptq_v2, auto-round (auto_gptq, auto_awq), compressed-tensors (pack-, int-quantized)"
_CURE = "Give the float checkpoint that it was made of"
_DEQUANTIZE = (
    "Save it as floats: AutoModelForCausalLM.from_pretrained(...).dequantize().save_pretrained(folder), and give that "
    "folder"
)
#: Methods that are known, and not read -> why not, and the cure.
_NOT_READ = {
    "bitsandbytes": ("its nf4 and int8 codes lie on no grid of equal steps with a scale a group", _DEQUANTIZE),
    "hqq": ("its scales and zero points are floats of its own packing, which no kernel here takes", _CURE),
    "quark": ("its files state their layout in ways that are not read yet", _CURE),
    "fp8": ("its weights are 8-bit floats, not integers", _DEQUANTIZE),
    "fbgemm_fp8": ("its weights are 8-bit floats, not integers", _DEQUANTIZE),
    "mxfp4": ("its weights are 4-bit floats, not integers", _DEQUANTIZE),
}


@dataclass(frozen=True)
class Scheme:
    """The layout of a checkpoint's codes.

    Attributes:
        method: as config.json names it.
        layout: of its tensors.
        bits: of most layers; 0 where the tensors alone tell.
        group_size: columns that share a scale; 0 where all of a row do, or the tensors alone tell.
        activations: the checkpoint was made to run with quantized activations too.
    """

    method: str
    layout: Layout
    bits: int
    group_size: int
    activations: bool = False

    @property
    def words(self) -> str:
        """Method, width and group, as reports name them: ``AWQ int4 group 128``."""
        name = {"awq": "AWQ", "gptq": "GPTQ", "auto-round": "AutoRound"}.get(self.method, self.method)
        group = f"group {self.group_size}" if self.group_size else "one scale a row"
        return f"{name} int{self.bits} {group}" if self.bits else name

    @property
    def note(self) -> str:
        """The base of a study, as a sentence."""
        more = "; it quantizes activations too, which are floats here" if self.activations else ""
        return f"base: float32, dequantized from {self.words}{more}"


def read_scheme(config: Mapping[str, Any], where: str) -> Scheme | None:
    """The scheme of a config.json; None for float weights.

    Raises:
        SourceError: for a method, layout or width that is not read, with the reason and the cure.
    """
    about = config.get("quantization_config") or config.get("compression_config")
    if not about:
        return None
    if not isinstance(about, Mapping):
        raise SourceError(f"{where}: config.json: quantization_config is no object")
    method = str(about.get("quant_method") or ("compressed-tensors" if "config_groups" in about else "")).lower()
    method = {"intel/auto-round": "auto-round", "auto_round": "auto-round"}.get(method, method)
    if method in _NOT_READ:
        why, cure = _NOT_READ[method]
        raise SourceError(f"{where}: its weights are quantized already ({method}): {why}. {cure}.")
    if method in ("awq", "gptq", "auto-round"):
        return _grouped(method, about, where)
    if method == "compressed-tensors":
        return _compressed(about, where)
    raise SourceError(
        f"{where}: config.json: unknown quantization_config.quant_method '{method or 'none'}'. "
        f"These are read: {READ}. {_CURE}."
    )


def float_bytes(weight_bytes: int, scheme: Scheme | None) -> int:
    """Bytes of the float32 weights of a checkpoint, at most: before it is fetched only its size is known."""
    return weight_bytes if scheme is None else weight_bytes * 8 * 4 // (scheme.bits or 4)


def _grouped(method: str, about: Mapping[str, Any], where: str) -> Scheme:
    """AWQ, GPTQ and AutoRound: one width and one group size for the model."""
    bits, group = _whole(about, ("bits", "w_bit"), where), _whole(about, ("group_size", "q_group_size"), where)
    layout: Layout
    if method == "awq":
        version = str(about.get("version", "gemm")).lower()
        if version != "gemm" or bits != 4:
            raise SourceError(f"{where}: AWQ is read as gemm in 4 bits; this is {version} in {bits}. {_CURE}.")
        layout = "awq"
    elif method == "gptq":
        word = str(about.get("checkpoint_format") or "gptq")
        if word not in ("gptq", "gptq_v2"):
            raise SourceError(
                f"{where}: config.json: checkpoint_format '{word}' is not read; gptq and gptq_v2 are. {_CURE}."
            )
        layout = "gptq_v2" if word == "gptq_v2" else "gptq"
    else:
        word = str(about.get("packing_format") or about.get("backend") or "auto_round:auto_gptq")
        if not word.endswith(("auto_gptq", "auto_awq")):
            raise SourceError(
                f"{where}: config.json: packing_format '{word}' is not read; auto_gptq and auto_awq are. Export it "
                "again so: autoround.save_quantized(folder, format='auto_gptq')."
            )
        layout = "awq" if word.endswith("auto_awq") else "gptq"
    return Scheme(method, layout, bits, max(group, 0))


def _compressed(about: Mapping[str, Any], where: str) -> Scheme:
    """compressed-tensors: groups of layers, whose weights share a form mostly."""
    word = str(about.get("format"))
    layouts: dict[str, Layout] = {"pack-quantized": "pack", "int-quantized": "int", "naive-quantized": "int"}
    if word not in layouts:
        raise SourceError(
            f"{where}: config.json: format '{word}' of compressed-tensors is not read; {', '.join(layouts)} are. "
            f"{_CURE}."
        )
    groups = about.get("config_groups")
    weights = (
        [g.get("weights") for g in groups.values() if isinstance(g, Mapping)] if isinstance(groups, Mapping) else []
    )
    stated = [w for w in weights if isinstance(w, Mapping)]
    if not stated or any(w.get("type", "int") != "int" for w in stated):
        raise SourceError(f"{where}: config.json: config_groups states no integer weights. {_CURE}.")
    widths = {int(w.get("num_bits") or 0) for w in stated}
    sizes = {max(int(w.get("group_size") or 0), 0) for w in stated}
    active = isinstance(groups, Mapping) and any(g.get("input_activations") for g in groups.values())
    return Scheme(
        "compressed-tensors",
        layouts[word],
        widths.pop() if len(widths) == 1 else 0,
        sizes.pop() if len(sizes) == 1 else 0,
        active,
    )


def _whole(about: Mapping[str, Any], names: tuple[str, ...], where: str) -> int:
    """A whole number of the config under one of its names."""
    value = next((about[name] for name in names if name in about), None)
    if type(value) is not int:
        raise SourceError(f"{where}: config.json: quantization_config.{names[0]} is {value!r}; it takes a whole number")
    return value
