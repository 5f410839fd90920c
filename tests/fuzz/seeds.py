"""The inputs that fuzzing begins with: one of each kind that a reader takes, and of each kind of attack we know."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import onnx
from onnx import TensorProto, helper

HERE = Path(__file__).resolve().parent


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def gguf() -> dict[str, bytes]:
    architecture = string(b"general.architecture") + struct.pack("<I", 8) + string(b"llama")
    tokens = string(b"tokens") + struct.pack("<IIQ", 9, 8, 2) + string(b"a") + string(b"b")
    scores = string(b"scores") + struct.pack("<IIQ", 9, 6, 3) + bytes(12)
    tensor = string(b"w") + struct.pack("<IQQIQ", 2, 4, 4, 0, 0)
    large = string(b"w") + struct.pack("<IQIQ", 1, 2**62, 0, 0)
    nested = string(b"n") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 40
    head = b"GGUF" + struct.pack("<I", 3)
    return {
        "whole": head + struct.pack("<QQ", 1, 3) + tokens + scores + architecture + tensor + bytes(64),
        "many-fields": head + struct.pack("<QQ", 2**63, 2**64 - 1) + architecture,
        "long-name": head + struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**62) + b"x",
        "long-array": head + struct.pack("<QQ", 0, 1) + string(b"t") + struct.pack("<IIQ", 9, 8, 2**60),
        "nested": head + struct.pack("<QQ", 0, 1) + nested,
        "large-tensor": head + struct.pack("<QQ", 1, 1) + architecture + large,
        "version-1": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    }


def safetensors() -> dict[str, bytes]:
    def file(header: object, data: bytes) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data

    one = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    return {
        "whole": file({"__metadata__": {"format": "pt"}, "a": one}, bytes(16)),
        "overlap": file({"a": one, "b": one}, bytes(16)),
        "gap": file({"a": {**one, "data_offsets": [4, 20]}}, bytes(20)),
        "huge": file({"a": {"dtype": "F64", "shape": [2**40, 2**40], "data_offsets": [0, 2**62]}}, b""),
        "long-header": (2**62).to_bytes(8, "little") + b"{}",
        "twice": file(b'{"a": {}, "a": {}}', b""),
        "deep": file(b'{"a":' + b"[" * 1500 + b"]" * 1500 + b"}", b""),
        "digits": file(b'{"a": ' + b"9" * 3000 + b"}", b""),
    }


def external() -> dict[str, bytes]:
    def graph(location: str, **more: str) -> bytes:
        weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 4], data_location=TensorProto.EXTERNAL)
        for key, value in {"location": location, **more}.items():
            weight.external_data.add(key=key, value=value)
        shown = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]) for name in ("x", "y")]
        node = helper.make_node("Add", ["x", "w"], ["y"])
        return bytes(
            helper.make_model(helper.make_graph([node], "g", shown[:1], shown[1:], [weight])).SerializeToString()
        )

    inner = onnx.ModelProto.FromString(graph("../secret"))
    outer = onnx.ModelProto.FromString(graph("model.onnx.data"))
    outer.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner.graph))
    return {
        "whole": graph("model.onnx.data", offset="64", length="64"),
        "parent": graph("../secret"),
        "absolute": graph("/etc/passwd"),
        "beyond": graph("model.onnx.data", offset="4090"),
        "negative": graph("model.onnx.data", offset="-4096", length="-1"),
        "absurd": graph("model.onnx.data", offset="9" * 30),
        "subgraph": bytes(outer.SerializeToString()),
    }


def yaml() -> dict[str, bytes]:
    root = HERE.parents[1]
    found = {path.stem: path.read_bytes() for path in sorted((root / "configs").glob("*.yaml"))}
    golden = sorted((root / "tests" / "search" / "golden").glob("*.yaml"))
    found |= {path.stem: path.read_bytes() for path in golden[::3]}
    laughs = b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    for before, now in zip(b"abcdefgh", b"bcdefghi", strict=True):
        laughs += b"%c: &%c [%s]\n" % (now, now, b", ".join([b"*%c" % before] * 9))
    return {
        **found,
        "laughs": laughs,
        "python-tag": b"model: !!python/object/apply:os.system ['touch secret']\n",
        "itself": b"a: &a [*a]\n",
        "deep": b"model: " + b"[" * 2000,
        "digits": b"seed: " + b"9" * 3900,
        "no-day": b"model: 2001-99-99\n",
        "merge": b"base: &b {precision: int4}\nspace:\n  <<: *b\nmodel: x\n",
    }


def main() -> None:
    for reader in (yaml, gguf, safetensors, external):
        folder = HERE / "corpus" / reader.__name__
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in reader().items():
            (folder / f"seed-{name}").write_bytes(content)


if __name__ == "__main__":
    main()
