"""The config of a LoRA adapter as PEFT saves it, ``adapter_config.json``: each field that is read, in its type.

What adds anything else than products of two matrices to a model (DoRA, trained biases, embeddings or whole modules) is
refused: its place is in the checkpoint.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from olivine.passes.errors import UsageError

CONFIG = "adapter_config.json"
MERGE = "Merge it into its checkpoint, and take that as the model."
#: Field of the config -> what its values other than false, none and empty mean.
_OTHER_METHODS = {
    "use_dora": "DoRA also scales the columns of each weight",
    "modules_to_save": "whole modules were trained beside it",
    "lora_bias": "its products have biases",
    "trainable_token_indices": "single rows of the embedding were trained beside it",
    "target_parameters": "it adds to parameters that are no linear layers",
    "layer_replication": "it repeats layers of the model",
    "alora_invocation_tokens": "it is active behind certain tokens alone",
    "use_qalora": "it averages what its layers read",
    "use_bdlora": "its matrices are blocks of larger ones",
    "kasa_config": "it scales its ranks by numbers of their own",
    "monteclora_config": "it draws its weights anew",
    "arrow_config": "it chooses among adapters for each token",
    "fan_in_fan_out": "it is of a model whose weights are transposed",
}
#: Starts of ``init_lora_weights`` at which PEFT changes the weights of the base model as well.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max  # neither infinite nor NaN


def _is_bool(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_pattern(value: Any) -> bool:
    return value is None or (isinstance(value, dict) and all(map(_is_number, value.values())))


#: Field -> whether a value has its type, and the values that have it, in words. A field that is absent has its default.
_TYPES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "peft_type": (_is_text, 'a word, "LORA"'),
    "lora_alpha": (_is_number, "a finite number"),
    "alpha_pattern": (_is_pattern, "an object of names and finite numbers"),
    "use_rslora": (_is_bool, "true or false"),
    "use_dora": (_is_bool, "true or false"),
    "lora_bias": (_is_bool, "true or false"),
    "use_qalora": (_is_bool, "true or false"),
    "fan_in_fan_out": (_is_bool, "true or false"),
    "bias": (_is_text, 'a word, "none"'),
    "init_lora_weights": (lambda value: _is_bool(value) or _is_text(value), "true, false or a word"),
    "base_model_name_or_path": (_is_text, "a word"),
}


@dataclass(frozen=True)
class PeftConfig:
    """Facts of a config of plain LoRA.

    Attributes:
        alpha: of modules that no pattern fits.
        alphas: pattern -> alpha of the modules that it fits; the first that fits holds.
        rank_stabilized: products are divided by the root of the rank.
        base: name or path of the model that it was trained on; empty where the config names none.
    """

    alpha: float
    alphas: tuple[tuple[re.Pattern[str], float], ...] = ()
    rank_stabilized: bool = False
    base: str = ""

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> PeftConfig:
        """The facts of a parsed ``adapter_config.json``.

        Args:
            config: the file's content.
            where: start of messages.

        Raises:
            UsageError: for a field that has another type than PEFT gives it, and for what is no plain LoRA.
        """
        _check_types(config, where)
        _check_method(config, where)
        if "lora_alpha" not in config:
            raise UsageError(f"{where}: {CONFIG} has no field lora_alpha; {_TYPES['lora_alpha'][1]} is what fits")
        patterns = [(_pattern(key, where), float(alpha)) for key, alpha in (config.get("alpha_pattern") or {}).items()]
        base = config.get("base_model_name_or_path") or ""
        return cls(float(config["lora_alpha"]), tuple(patterns), bool(config.get("use_rslora")), base)

    def scale(self, module: str, rank: int) -> float:
        """The factor of a module's product; patterns stand for ends of names, as PEFT reads them."""
        alpha = next((alpha for pattern, alpha in self.alphas if pattern.fullmatch(module)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def _check_types(config: Mapping[str, Any], where: str) -> None:
    for field, (fits, what) in _TYPES.items():
        if field in config and not fits(config[field]):
            raise UsageError(f"{where}: {CONFIG} has the {field} {config[field]!r}; {what} is what fits")


def _check_method(config: Mapping[str, Any], where: str) -> None:
    """Refuse what is no plain LoRA."""
    method = str(config.get("peft_type"))
    if method != "LORA":
        raise UsageError(f"{where}: it is {method}, not LORA: only LoRA can stand beside a graph. {MERGE}")
    reasons = [f"{field}: {why}" for field, why in _OTHER_METHODS.items() if config.get(field)]
    if (config.get("bias") or "none") != "none":
        reasons.append(f"bias {config['bias']}: biases were trained beside it")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_CHANGES_BASE):
        reasons.append(f"init_lora_weights {start}: it belongs to a base whose weights were changed at its start")
    if reasons:
        raise UsageError(f"{where}: it is more than LoRA ({'; '.join(reasons)}). {MERGE}")


def _pattern(key: str, where: str) -> re.Pattern[str]:
    """A key of ``alpha_pattern`` as PEFT reads it."""
    try:
        return re.compile(rf"(.*\.)?({key})")
    except re.error as error:
        raise UsageError(
            f"{where}: {CONFIG} has the key {key!r} in alpha_pattern, which is no regular expression ({error.msg}); "
            "the end of a module's name is what fits, such as 'q_proj', or a regular expression for it"
        ) from None
