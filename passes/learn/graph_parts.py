"""Graph parts: a float graph that runs part after part over some text, so that each weight is read once.

A part ends at the activations that it is asked for. What later parts read of it waits in files, a few values a token,
so the whole takes as long as one run, in the memory of one part.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from olivine.passes.artifact import link_or_copy
from olivine.passes.cpu import available_cores
from olivine.passes.errors import BuildFailed
from olivine.passes.export.check import ort_errors, prompt
from olivine.passes.store.digests import digest

if TYPE_CHECKING:
    import onnx
    import onnxruntime as ort


@dataclass(frozen=True)
class Part:
    """Some nodes of a graph.

    Attributes:
        nodes: their indices, in topological order.
        asked: activations that the part is run for.
        reads: values of earlier parts.
        keeps: values that later parts read.
    """

    nodes: tuple[int, ...]
    asked: tuple[str, ...]
    reads: tuple[str, ...]
    keeps: tuple[str, ...]


def split(model: onnx.ModelProto, groups: Sequence[Sequence[str]]) -> list[Part]:
    """Cut a graph into a part for each group of activations, which are in the graph's order."""
    nodes, done = model.graph.node, set[int]()
    members: list[list[int]] = []
    for group in groups:
        needed, chosen = set(group), list[int]()
        for index in range(len(nodes) - 1, -1, -1):  # ONNX wants nodes in topological order
            if index not in done and needed.intersection(nodes[index].output):
                needed.update(nodes[index].input)
                chosen.append(index)
        done.update(chosen)
        members.append(chosen[::-1])
    makes = [{name for i in chosen for name in nodes[i].output if name} for chosen in members]
    reads = [
        {*group, *(name for i in chosen for name in nodes[i].input)} - made
        for group, chosen, made in zip(groups, members, makes, strict=True)
    ]
    before = list(accumulate(makes, set.union, initial=set[str]()))
    after = list(accumulate(reversed(reads), set.union, initial=set[str]()))[::-1]
    return [
        Part(
            tuple(chosen),
            tuple(group),
            tuple(sorted(reads[i] & before[i])),
            tuple(sorted((makes[i] & after[i + 1]) - set(group))),
        )
        for i, (group, chosen) in enumerate(zip(groups, members, strict=True))
    ]


@dataclass(frozen=True)
class GraphRun:
    """A graph that runs windows of text.

    Attributes:
        graph: the .onnx file; what it reads of its weights lies beside ``scratch`` files of its name.
        scratch: folder for cut graphs, which has the graph's external data, and for values between parts.
        windows: token ids [windows, length].
        head_size: features of an attention head.
    """

    graph: Path
    scratch: Path
    windows: np.ndarray
    head_size: int

    def activations(self, groups: Sequence[Sequence[str]]) -> Iterator[Iterator[list[np.ndarray]]]:
        """Each group's activations, window by window; a group has to be read to its end before the next is asked for.

        Raises:
            BuildFailed: when the graph does not run.
        """
        import onnx

        parts = split(onnx.load(self.graph, load_external_data=False), groups)
        for index, part in enumerate(parts):
            yield self._run(part, {name for later in parts[index + 1 :] for name in later.reads})

    def _run(self, part: Part, read_later: set[str]) -> Iterator[list[np.ndarray]]:
        keeps = [*part.keeps, *(name for name in part.asked if name in read_later)]
        try:
            session = self._open(part) if part.nodes else None
            for number, window in enumerate(self.windows):
                values = {name: np.load(self._file(name, number)) for name in part.reads}
                if session is not None:
                    values |= self._computed(session, window, values)
                for name in keeps:
                    np.save(self._file(name, number), values[name])
                for name in set(part.reads) - read_later:
                    self._file(name, number).unlink()
                yield [values[name] for name in part.asked]
        except ort_errors() as error:
            raise BuildFailed(f"calibration: the graph does not run in ONNX Runtime: {error}") from error

    def _computed(
        self, session: ort.InferenceSession, window: np.ndarray, values: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(names, prompt(session, self.head_size, window, values)), strict=True))

    def _open(self, part: Part) -> ort.InferenceSession:
        """A session of a part, whose values from earlier parts are inputs."""
        import onnx
        from onnx import helper

        types = {name: np.load(self._file(name, 0), mmap_mode="r").dtype for name in part.reads}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(kind), None)
            for name, kind in types.items()
        ]
        computed = [*part.keeps, *(name for name in part.asked if name not in types)]
        cut = self.scratch / self.graph.name
        onnx.save(cut_to(onnx.load(self.graph, load_external_data=False), part.nodes, inputs, computed), cut)
        return open_session(cut)

    def _file(self, name: str, window: int) -> Path:
        return self.scratch / f"{digest(name)}.{window}.npy"


@contextmanager
def graph_run(graph: Path, windows: np.ndarray, head_size: int, beside: Path) -> Iterator[GraphRun]:
    """A run of a graph, whose files lie in a folder beside the result until it ends."""
    with tempfile.TemporaryDirectory(dir=beside, prefix="graph-") as folder:
        scratch = Path(folder)
        for weights in graph.parent.glob(f"{graph.name}.*"):
            link_or_copy(weights, scratch / weights.name)
        yield GraphRun(graph, scratch, windows, head_size)


def cut_to(
    model: onnx.ModelProto, nodes: Sequence[int], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[str]
) -> onnx.ModelProto:
    """Reduce a graph to some of its nodes, in place, with the weights and inputs that they read and ``inputs``."""
    import onnx

    graph = model.graph
    chosen = [graph.node[index] for index in nodes]
    read = {name for node in chosen for name in node.input}
    weights = [weight for weight in graph.initializer if weight.name in read]
    own = [value for value in graph.input if value.name in read]
    del graph.node[:], graph.output[:], graph.initializer[:], graph.input[:]
    graph.node.extend(chosen)
    graph.initializer.extend(weights)
    graph.input.extend([*own, *inputs])
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    return model


def open_session(graph: Path) -> ort.InferenceSession:
    """A session on the CPU whose weights stay in their file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = available_cores()
    # Packed weights would be copies in memory of what is mapped from its file.
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
