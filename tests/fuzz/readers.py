"""The readers of files that strangers write, each as a function of bytes: what a fuzzer and a replay of its corpus run.

A reader may refuse an input with an OlivineError, and may accept it; anything else that it raises is a finding, as is a
file opened outside the folder that the input was put into.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from olivine.passes.errors import OlivineError
from olivine.passes.graph import _mapped
from olivine.passes.sources.external_data import external_files, tensors
from olivine.passes.sources.gguf.header import read_header as read_gguf_header
from olivine.passes.sources.weights.safetensors_header import read_header
from olivine.search.config.load import parse_config
from olivine.search.config.yaml_file import read_yaml

#: One of so many study files is checked as a config too.
CHECKED_OF = 20
CORPUS = Path(__file__).parent / "corpus"


class OpenedOutside(Exception):
    """A reader opened a file that is not in the folder of its input."""


_watching: list[Path] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching or event != "open" or not isinstance(arguments[0], str | bytes):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    if not path.startswith(f"{_watching[0]}/") and path.endswith(("passwd", "secret")):
        raise OpenedOutside(path)


sys.addaudithook(_watch)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder for one input; beside it lies a file that no reader may touch."""
    home = Path(os.environ.get("FUZZ_FOLDER") or tempfile.gettempdir()) / f"olivine-fuzz-{os.getpid()}"
    folder = home / "model"
    folder.mkdir(parents=True, exist_ok=True)
    (home / "secret").write_bytes(b"s" * 4096)
    _watching[:] = [folder.resolve()]
    try:
        yield folder
    finally:
        _watching.clear()
        for path in folder.iterdir():
            path.unlink()


def yaml(data: bytes) -> None:
    """A study file; of some inputs, also what it says, which takes twenty times as long."""
    with _folder() as folder:
        path = folder / "study.yaml"
        path.write_bytes(data)
        raw = read_yaml(path)
        if zlib.crc32(data) % CHECKED_OF == 0:
            parse_config(raw, "study.yaml")


def gguf(data: bytes) -> None:
    """A GGUF file's header."""
    with _folder() as folder:
        path = folder / "model.gguf"
        path.write_bytes(data)
        read_gguf_header(path)


def safetensors(data: bytes) -> None:
    """A safetensors file's header; what we accept, the library has to accept."""
    with _folder() as folder:
        path = folder / "model.safetensors"
        path.write_bytes(data)
        read_header(path)


def external(data: bytes) -> None:
    """A graph whose weights lie in files: they are looked for, and mapped."""
    from google.protobuf.message import DecodeError

    with _folder() as folder:
        path = folder / "model.onnx"
        path.write_bytes(data)
        (folder / "model.onnx.data").write_bytes(b"d" * 4096)
        try:
            model = onnx.load(path, load_external_data=False)
        except DecodeError:
            return
        external_files(path, model)
        for tensor in tensors(model):
            if tensor.external_data:
                found = ir.serde.deserialize_tensor(tensor, base_path=folder)
                if isinstance(found, ir.ExternalTensor):
                    _mapped(path, found)


READERS: dict[str, Callable[[bytes], None]] = {
    "yaml": yaml,
    "gguf": gguf,
    "safetensors": safetensors,
    "external": external,
}


def run(reader: str, data: bytes) -> bool:
    """Give one input to a reader; returns whether it was accepted."""
    try:
        READERS[reader](data)
    except OlivineError:
        return False
    return True
