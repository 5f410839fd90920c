"""GraphSource: the ``model:`` of a study of a graph, an ONNX file, an encoder's checkpoint, or a demo of either."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import onnx

from olivine.passes.base import GraphFilePass
from olivine.passes.errors import SourceError, did_you_mean
from olivine.passes.graphs.encoder import TOKEN_CLASSIFIER, export_encoder
from olivine.passes.graphs.sentence import module_files, sentence_modules
from olivine.passes.sources import checkpoint
from olivine.passes.sources.content_hash import content_sha256, files_digest
from olivine.passes.sources.demo import MINILM, VIT_FOCUS, fetch, fetch_all
from olivine.passes.sources.file_names import refuse_foreign_links
from olivine.passes.store.digests import digest

GRAPH_FILE = "model.onnx"
#: Raised whenever the same source and recipe would give other bytes.
VERSION = 2
DEMO = "demo:"
#: Name of each demo -> its architecture.
DEMOS = {"all-minilm-l6-v2": "bert", "vit-focus": "vit"}
#: Graphs of more bytes keep their weights beside them: a protobuf ends at 2 GiB.
ONE_FILE_BYTES = 1_500_000_000
#: Files that go with an exported encoder.
_BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "vocab.txt")
_FORMS = "A plain study's model is an .onnx file, the folder of an encoder's checkpoint, or "


@dataclass(frozen=True)
class GraphSource:
    """A model that exists.

    Attributes:
        model: the ``model:`` it was found from.
        name: its name in reports.
        kind: an ONNX file or a checkpoint.
        key: identity of its content.
        architecture: transformers' model type; what the study says, or nothing, for an ONNX file.
        path: the file or folder.
        heads: attention heads, from a checkpoint's config; 0 where the graph has to tell.
        hidden: hidden size, likewise.
        revision: None: only models of the hub have one.
    """

    model: str
    name: str
    kind: Literal["onnx", "encoder"]
    key: str
    architecture: str
    path: Path
    heads: int = 0
    hidden: int = 0
    revision: None = None

    @property
    def folder_key(self) -> str:
        """Key of the folder that :meth:`materialize` writes; all that is built from it has this in its key."""
        return digest(["plain", VERSION, self.key, {name: version(name) for name in GraphFilePass.libraries}])

    @property
    def folder(self) -> Path:
        """Folder that a tokenizer may lie in: the checkpoint, or the folder of the file."""
        return self.path.parent if self.path.is_file() else self.path

    def materialize(self, to: Path) -> frozenset[str]:
        """Write ``model.onnx``, and what goes with it, to the empty folder ``to``.

        Raises:
            SourceError: when it can't be read or exported.
        """
        if self.kind == "encoder":
            export_encoder(self.path, to / GRAPH_FILE)
            for name in _BESIDE:
                if (self.path / name).is_file():
                    shutil.copyfile(self.path / name, to / name)
        else:
            save_named(_loaded(self.path), to / GRAPH_FILE)
            return frozenset({"onnx"})
        save_named(onnx.load(to / GRAPH_FILE), to / GRAPH_FILE)
        return frozenset({"onnx"})

    def about(self) -> Mapping[str, str | None]:
        """For environment.json and manifests."""
        return {"name": self.name, "kind": self.kind, "architecture": self.architecture, "key": self.key}


def resolve_graph(model: str, architecture: str | None = None) -> GraphSource:
    """Resolve ``model``; loads nothing, and fetches a demo once.

    Args:
        model: path or demo.
        architecture: of an ONNX file, as the study says.

    Raises:
        SourceError: when there is no such model.
    """
    if model.startswith(DEMO):
        name = model.removeprefix(DEMO)
        if name not in DEMOS:
            raise SourceError(f"Unknown demo model '{name}'. {did_you_mean(name, DEMOS)}")
        path = fetch_all(MINILM, name) if name == "all-minilm-l6-v2" else fetch(VIT_FOCUS)
        return _of(model, path, name, architecture or DEMOS[name])
    path = Path(model).expanduser()
    if not path.exists():
        raise SourceError(f"There is no file or folder '{model}'. {_FORMS}{', '.join(DEMO + name for name in DEMOS)}.")
    return _of(model, path.resolve(), path.stem if path.is_file() else path.name, architecture)


def _of(model: str, path: Path, name: str, architecture: str | None) -> GraphSource:
    if path.is_dir() and not (path / "config.json").is_file() and (path / GRAPH_FILE).is_file():
        path = path / GRAPH_FILE
    if path.is_file():
        if path.suffix != ".onnx":
            raise SourceError(f"{path} is no .onnx file. {_FORMS}{', '.join(DEMO + name for name in DEMOS)}.")
        return GraphSource(model, name, "onnx", digest(["plain", *_content(path)]), architecture or "", path)
    if not (path / "config.json").is_file():
        raise SourceError(f"{path} has neither a config.json nor a {GRAPH_FILE}: it is no model.")
    config = checkpoint.read_config(path / "config.json", str(path))
    weights = sorted(file.name for file in path.iterdir() if file.suffix == ".safetensors")
    if not weights:
        raise SourceError(f"{path} has no .safetensors file; save the model with save_pretrained")
    extra = [name for name in ("modules.json", *_BESIDE) if (path / name).is_file()]
    refuse_foreign_links(path, extra)
    pooling = sorted(path.glob("*_Pooling/config.json"))
    content = files_digest([path / name for name in (*weights, *extra)])
    libraries = {library: version(library) for library in ("torch", "transformers")}
    # Dense layers were once left out.
    dense = [content_sha256(file) for file in module_files(sentence_modules(path))]
    # So were the logits of tokens.
    tagged = ["logits"] if any(TOKEN_CLASSIFIER in str(name) for name in config.get("architectures") or ()) else []
    poolings = [content_sha256(file) for file in pooling]
    parts = ["encoder", content, poolings, libraries, *([dense] if dense else []), *tagged]
    sizes = config.get("vision_config", config)
    heads, hidden = (int(sizes.get(name) or 0) for name in ("num_attention_heads", "hidden_size"))
    kind = architecture or str(config.get("model_type", ""))
    return GraphSource(model, name, "encoder", digest(parts), kind, path, heads, hidden)


def _content(path: Path) -> list[str]:
    """Hashes of a graph and of the files that hold its weights.

    Raises:
        SourceError: when it is no ONNX graph, or a weight's file is absent or outside of the graph's folder.
    """
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's errors share no class of their own
        raise SourceError(f"{path} is no ONNX graph: {error}") from error
    names = {entry.value for weight in graph.initializer for entry in weight.external_data if entry.key == "location"}
    for name in sorted(names):
        place = (path.parent / name).resolve()
        if place.parent != path.parent.resolve() or not place.is_file():
            raise SourceError(f"{path}: its weights should be in '{name}', and beside it there is no such file")
    return [content_sha256(path), *(content_sha256(path.parent / name) for name in sorted(names))]


def _loaded(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:  # of protobuf, or of the file system for the weights' files
        raise SourceError(f"{path} can't be read: {error}") from error


def save_named(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph each node of which has a name: passes speak of nodes by name."""
    names = {node.name for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        if not node.name:
            name = f"{node.op_type}_{number}"
            node.name = name if name not in names else f"{name}_unnamed"
    weights = path.with_name(f"{path.name}.data")
    for file in (path, weights):
        file.unlink(missing_ok=True)
    onnx.save(model, path, save_as_external_data=model.ByteSize() > ONE_FILE_BYTES, location=weights.name)


def graph_bytes(folder: Path) -> int:
    """Bytes of a folder's graph and its external weights."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.name.startswith(GRAPH_FILE))
