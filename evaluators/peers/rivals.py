"""The other engines' models: made once of the same checkpoint, each by its own tools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from olivine.evaluators.peers.process import ENGINES, Launch
from olivine.evaluators.peers.rows import BUILDER, LLAMA, OPENVINO, Row
from olivine.passes.errors import OlivineError

#: Types of GGUF files; the narrow ones learn from an importance matrix.
GGUF = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS")
#: Formats of ``engines/export_openvino.py``.
OPENVINO_FORMATS = ("int8", "int4 g64", "int4 g64 data-aware")
BUILDER_FORMATS = ("int8", "int4")
FLOAT = "float32"


class RivalFailed(OlivineError):
    """Another engine could not make its model; the message ends with its last lines."""


@dataclass(frozen=True)
class Llama:
    """A folder with the source distribution of llama-cpp-python, in which llama.cpp was built."""

    folder: Path

    @property
    def source(self) -> Path:
        """The source of llama.cpp."""
        return self.folder / "vendor" / "llama.cpp"

    @property
    def build(self) -> Path:
        """The folder that CMake builds in."""
        return self.folder / "build"

    @property
    def bindings(self) -> str:
        """Folder of the Python modules."""
        return str(self.folder / "llama_cpp")

    @property
    def environment(self) -> dict[str, str]:
        """Variables that tell the bindings where the library is."""
        return {"LLAMA_CPP_LIB_PATH": str(self.build / "bin")}

    def launch(self, file: Path, threads: int, python: Path) -> Launch:
        """Start its library on a GGUF file."""
        settings = {"path": str(file), "threads": threads, "bindings": self.bindings}
        return Launch(python, "llama.py", settings, self.environment)


@dataclass(frozen=True)
class Rivals:
    """Makes the models of other engines.

    Attributes:
        checkpoint: Hugging Face folder that all of them come from.
        work: where they are kept.
        home: environments, as ``make peers`` lays them.
        calibration: texts that formats may learn from.
        threads: of every engine.
        gguf: types of llama.cpp's files.
        openvino: formats of OpenVINO.
        builder: precisions of the model builder.
        say: takes a line for people before each model is made.
    """

    checkpoint: Path
    work: Path
    home: Path
    calibration: Sequence[str]
    threads: int
    gguf: Sequence[str] = GGUF
    openvino: Sequence[str] = OPENVINO_FORMATS
    builder: Sequence[str] = BUILDER_FORMATS
    say: Callable[[str], None] = print

    @property
    def missing(self) -> list[Path]:
        """Files of the environments that are not there; none where the engines are installed."""
        needed = (self.python, self._llama.build / "bin", self._llama.source / "convert_hf_to_gguf.py")
        return [path for path in needed if not path.exists()]

    @property
    def _llama(self) -> Llama:
        return Llama(self.home / "llama.cpp")

    @property
    def python(self) -> Path:
        """Interpreter that has OpenVINO and what converts checkpoints."""
        return self.home / "python" / "bin" / "python"

    def rows(self) -> list[Row]:
        """All rows, made where they are not there yet; a float one of each engine first."""
        self.work.mkdir(parents=True, exist_ok=True)
        self._samples.write_text(json.dumps(list(self.calibration)), encoding="utf-8")
        return [*self._llama_rows(), *self._openvino_rows(), *self._builder_rows()]

    def _llama_rows(self) -> list[Row]:
        llama = self._llama
        whole, matrix = self.work / f"{FLOAT}.gguf", self.work / "importance.npz"
        convert = [str(ENGINES / "convert_gguf.py"), str(self.checkpoint), "--llama", str(llama.source), "--to"]
        self._make(whole, convert)
        learn = [str(ENGINES / "importance.py"), str(self.checkpoint), "--samples", str(self._samples)]
        self._make(matrix, [*learn, "--float", str(whole), "--gguf-py", str(llama.source / "gguf-py"), "--to"])
        found = [self._llama_row(llama, FLOAT, whole)]
        for name in self.gguf:
            file = self.work / f"{name}.gguf"
            quantize = [str(ENGINES / "quantize_gguf.py"), str(whole), "--bindings", llama.bindings]
            quantize += ["--matrix", str(matrix), "--type", name, "--to"]
            self._make(file, quantize, llama.environment)
            found.append(self._llama_row(llama, name, file))
        return found

    def _llama_row(self, llama: Llama, name: str, file: Path) -> Row:
        return Row(LLAMA, name, file, llama.launch(file, self.threads, self.python), name != FLOAT)

    def _openvino_rows(self) -> list[Row]:
        whole, found = self.work / f"openvino-{FLOAT}", []
        for name in (FLOAT, *self.openvino):
            folder = whole if name == FLOAT else self.work / f"openvino-{name.replace(' ', '-')}"
            source = self.checkpoint if name == FLOAT else whole
            export = [str(ENGINES / "export_openvino.py"), name, str(source), "--samples", str(self._samples), "--to"]
            self._make(folder, export)
            settings = {"path": str(folder), "threads": self.threads}
            exact = {"precision": "f32"} if name == FLOAT else {}
            launch = Launch(self.python, "openvino_pipeline.py", {**settings, **exact})
            found.append(Row(OPENVINO, name, folder, launch, name != FLOAT))
        return found

    def _builder_rows(self) -> list[Row]:
        found = []
        for name in self.builder:
            folder = self.work / f"builder-{name}"
            build = ["-m", "onnxruntime_genai.models.builder", "-i", str(self.checkpoint), "-p", name, "-e", "cpu"]
            build += ["-c", str(self.work / "builder-cache"), "-o"]
            self._make(folder, build, python=Path(sys.executable))
            found.append(Row(BUILDER, name, folder, genai(folder, self.threads)))
        return found

    @property
    def _samples(self) -> Path:
        """File with the texts that formats may learn from."""
        return self.work / "calibration.json"

    def _make(
        self,
        path: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str] | None = None,
        python: Path | None = None,
    ) -> None:
        """Run the script that makes ``path``, its last argument, where it is not there; it appears when it is whole.

        Raises:
            RivalFailed: when the script fails, with its last lines.
        """
        if path.exists():
            return
        aside = path.with_name(f"new-{path.name}")
        self.say(f"making {path.name}")
        command = [str(python or self.python), *arguments, str(aside)]
        log = self.work / "make.log"
        with log.open("w") as out:
            done = subprocess.run(
                command, check=False, stdout=out, stderr=out, env={**os.environ, **(environment or {})}
            )
        if done.returncode:
            last = "\n  ".join(log.read_text(errors="replace").strip().splitlines()[-5:])
            raise RivalFailed(f"{path.name} could not be made (exit code {done.returncode}):\n  {last}")
        os.replace(aside, path)


def genai(folder: Path, threads: int) -> Launch:
    """Start ONNX Runtime GenAI on a folder."""
    return Launch(Path(sys.executable), "genai.py", {"path": str(folder), "threads": threads})
