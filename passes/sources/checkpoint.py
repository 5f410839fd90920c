"""Rules for Hugging Face checkpoints, checked before any work starts, from their names and config alone."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from olivine.passes.errors import SourceError, did_you_mean
from olivine.passes.export.genai_builder import supported_architectures
from olivine.passes.sources.codes.scheme import read_scheme
from olivine.passes.sources.file_names import inside
from olivine.passes.sources.json_file import read_json
from olivine.passes.sources.weights.files import check_shards
from olivine.passes.store.safetensors_stream import INDEX

WEIGHTS = "*.safetensors"
#: Files of a checkpoint beside its weights: configs, tokenizer, chat template.
TEXT = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken")
CODE = "*.py"
#: Text that lies beside a model without belonging to it.
_NOT_MODEL = (
    "finetune.json",
    "trainer_state.json",
    "training_args.json",
    "README.txt",
    "LICENSE.txt",
    "requirements.txt",
)
#: Files of which a tokenizer has at least one.
TOKENIZERS = ("tokenizer.json", "*.model", "vocab.json", "vocab.txt", "*.tiktoken")
#: First bytes of a file that stands for a large one.
_POINTER = b"version https://git-lfs.github.com/spec/"
#: Endings that download tools give to files until they are whole.
_UNFINISHED = (".part", ".partial", ".crdownload", ".incomplete", ".download", ".aria2", ".tmp")
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def patterns(trust_remote_code: bool) -> list[str]:
    """Name patterns of the files that are taken: only with ``trust_remote_code`` Python code."""
    return [WEIGHTS, *TEXT, *([CODE] if trust_remote_code else [])]


def taken(names: Iterable[str], trust_remote_code: bool) -> list[str]:
    """The files of a checkpoint that are taken, sorted; subfolders hold other formats and are left."""
    wanted = patterns(trust_remote_code)
    return sorted(
        name
        for name in names
        if "/" not in name and name not in _NOT_MODEL and any(fnmatch.fnmatch(name, p) for p in wanted)
    )


def read_config(path: Path, where: str) -> dict[str, Any]:
    """The parsed config.json.

    Raises:
        SourceError: when it is not a JSON object.
    """
    return read_json(path, where)


def check_weights(names: Iterable[str], where: str) -> None:
    """Refuse a checkpoint without safetensors, or without some of them.

    Raises:
        SourceError: for pickled weights (loading them runs code that the file brings), for none, or for shards that
            are missing.
    """
    present = list(names)
    if any(fnmatch.fnmatch(name, WEIGHTS) for name in present):
        check_shards(present, where)
        return
    pickled = [name for name in present if any(fnmatch.fnmatch(name, pattern) for pattern in _PICKLED)]
    if pickled:
        raise SourceError(
            f"{where}: its weights are pickled ({pickled[0]}), and loading a pickle can run any code in it. "
            "Save it as safetensors: AutoModelForCausalLM.from_pretrained(...).save_pretrained(folder)."
        )
    unfinished = [name for name in present if name.endswith(_UNFINISHED)]
    hint = f"; {unfinished[0]} is a download that has not ended" if unfinished else ""
    raise SourceError(f"{where}: has no *.safetensors weights{hint}")


def check_tokenizer(names: Iterable[str], where: str) -> None:
    """Refuse a checkpoint without the files of a tokenizer.

    Raises:
        SourceError: naming the files that it may have.
    """
    present = set(names)
    if not any(fnmatch.fnmatch(name, pattern) for name in present for pattern in TOKENIZERS):
        raise SourceError(
            f"{where}: it has no tokenizer ({', '.join(TOKENIZERS)}). Fetch the files beside the weights too, or "
            "save it: AutoTokenizer.from_pretrained(...).save_pretrained(folder)."
        )


def refuse_pointers(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder in which git has left pointers in place of large files.

    Raises:
        SourceError: naming them, and how they are fetched.
    """
    pointers = []
    for name in sorted(names):
        with (folder / name).open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                pointers.append(name)
    if pointers:
        raise SourceError(
            f"{folder}: {', '.join(pointers[:4])}{' ...' if len(pointers) > 4 else ''} "
            f"{'is' if len(pointers) == 1 else 'are'} not there, only what git-lfs left in place of "
            f"{'it' if len(pointers) == 1 else 'them'}: run 'git lfs pull' in the folder."
        )


def refuse_cut_off(folder: Path, names: Iterable[str]) -> None:
    """Refuse a folder with JSON files that end too early, as downloads do that were broken off.

    Raises:
        SourceError: naming the first.
    """
    for name in sorted(names):
        if name.endswith(".json"):
            with (folder / name).open("rb") as stream:
                size = stream.seek(0, 2)
                stream.seek(max(0, size - 64))
                end = stream.read().rstrip()
            if not end.endswith((b"}", b"]")):
                raise SourceError(f"{folder}: {name} is cut off, or no JSON: fetch it again")


def check_index(folder: Path) -> None:
    """Refuse a folder whose index names shards that are not there.

    Raises:
        SourceError: naming the first missing shards.
    """
    index = folder / INDEX
    if not index.exists():
        return
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise SourceError(f"{index} has no weight_map")
    shards = {inside(folder, name, INDEX) for name in weight_map.values()}
    if missing := sorted(shard.name for shard in shards if not shard.exists()):
        raise SourceError(f"{folder}: {len(missing)} of {len(shards)} weight files are missing: {missing[0]} ...")


def check_architecture(config: dict[str, Any], where: str, trust_remote_code: bool) -> str:
    """The architecture's name, when the exporter knows it and the weights are floats, or codes that are read.

    Raises:
        SourceError: with the nearest known architecture, or with why the checkpoint can't be a source.
    """
    known = supported_architectures()
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise SourceError(f"{where}: config.json names no architecture. {did_you_mean('', known)}")
    architecture = str(names[0])
    if architecture not in known:
        raise SourceError(
            f"{where}: the GenAI model builder does not know architecture '{architecture}'. "
            f"{did_you_mean(architecture, known)}"
        )
    read_scheme(config, where)
    if config.get("auto_map") and not trust_remote_code and not _in_transformers(config):
        raise SourceError(
            f"{where}: the model brings its own Python code, which is not run unless the config says so. "
            "Read the code, then set trust_remote_code: true."
        )
    return architecture


def float_type(config: dict[str, Any]) -> str:
    """Type of the weights as config.json gives it; float32 where it says nothing, or codes are dequantized."""
    if read_scheme(config, "") is not None:
        return "float32"
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def disk_need_bytes(weight_bytes: int, dtype: str) -> int:
    """Disk that a study needs at least: a copy of the checkpoint and the float32 graph made of it."""
    return weight_bytes + weight_bytes * 4 // _BYTES.get(dtype, 2)


def _in_transformers(config: dict[str, Any]) -> bool:
    """True when transformers has this model itself, so that the checkpoint's own code is not needed."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return str(config.get("model_type")) in CONFIG_MAPPING_NAMES
