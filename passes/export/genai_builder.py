"""The model builder of ONNX Runtime GenAI: what it knows, and how it is called without its noise."""

from __future__ import annotations

import ast
import contextlib
import copy
import importlib.util
import io
import json
import logging
import tempfile
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from olivine.passes.errors import BuildFailed, PassRefused
from olivine.passes.export.builder_config import tell_builder, text_of
from olivine.passes.export.mended_graph import mend_graph
from olivine.passes.export.mends import mends_of
from olivine.passes.export.rope_tables import rope_tables

LOG = logging.getLogger(__name__)

#: Dispatched by the builder, but not a causal language model.
_NOT_CAUSAL = {"WhisperForConditionalGeneration"}
_LAST_LINES = 5
#: What the builder's Python code raises on a checkpoint that it can't export.
_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@cache
def supported_architectures() -> tuple[str, ...]:
    """Names that the installed model builder dispatches on, sorted; read from its source.

    Importing it would load torch and transformers: seconds, too slow for a check before any work.
    """
    spec = importlib.util.find_spec("onnxruntime_genai")
    if spec is None or spec.origin is None:
        raise BuildFailed("onnxruntime-genai is not installed: pip install onnxruntime-genai")
    tree = ast.parse((Path(spec.origin).parent / "models" / "builder.py").read_text(encoding="utf-8"))
    names = {
        word.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "config.architectures[0]"
        for word in node.comparators
        if isinstance(word, ast.Constant) and isinstance(word.value, str)
    }
    return tuple(sorted(names - _NOT_CAUSAL))


def run_builder(checkpoint: Path, to: Path, precision: str, provider: str, options: Sequence[str]) -> None:
    """Export ``checkpoint`` to the empty folder ``to``, in this process; the same inputs give the same bytes.

    Args:
        checkpoint: Hugging Face checkpoint folder.
        to: where model.onnx, its data, genai_config.json and the tokenizer go.
        precision: fp32, fp16 or bf16.
        provider: the builder's word for the execution provider.
        options: the builder's KEY=VALUE strings.

    Raises:
        PassRefused: when the builder refuses the model.
        BuildFailed: when it fails; the message ends with its own last lines.
    """
    try:
        with _weights_stay_in_files():
            _run_once(checkpoint, to, precision, provider, options)
    except BuildFailed as error:
        LOG.warning("the model builder can't stream this checkpoint, so it loads it whole: %s", error)
        for left in to.iterdir():
            left.unlink()
        _run_once(checkpoint, to, precision, provider, options)
    _drop_commit(to / "model.onnx")


def _weights_stay_in_files() -> contextlib.AbstractContextManager[None]:
    """Let transformers load checkpoints as deferred tensors: each weight is read when it is written."""
    from olivine.passes.export.deferred import DeferredFile, checkpoints_open_as

    return checkpoints_open_as(DeferredFile)


def _run_once(checkpoint: Path, to: Path, precision: str, provider: str, options: Sequence[str]) -> None:
    where = ("", str(checkpoint), str(to), precision, provider)
    mends = mends_of(json.loads((checkpoint / "config.json").read_text(encoding="utf-8")))
    output = io.StringIO()
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".builder-", dir=to.parent) as scratch,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            from onnxruntime_genai.models import builder

            parsed = builder.parse_extra_options(*where, scratch, list(options))
            hf_config = parsed["hf_details"]["hf_config"]
            config = copy.deepcopy(hf_config)
            tables = rope_tables(config, text_of(config).max_position_embeddings) if "rope" in mends else {}
            tell_builder(hf_config, mends, tables)
            builder.create_model(*where, scratch, **parsed)
            if mends:
                mend_graph(to, text_of(config), mends, tables)
    except NotImplementedError as error:
        raise PassRefused(f"The GenAI model builder refuses this model: {error}") from error
    except _ERRORS as error:
        lines = [line for line in output.getvalue().replace("\r", "\n").splitlines() if line.strip()]
        raise BuildFailed(
            f"The GenAI model builder failed: {type(error).__name__}: {error}\nIts last lines:\n  "
            + "\n  ".join(lines[-_LAST_LINES:])
        ) from error
    finally:
        LOG.debug("model builder:\n%s", output.getvalue())


def _drop_commit(graph: Path) -> None:
    """Stamp the graph with the builder's version alone.

    The builder appends the commit of whatever git repository encloses site-packages, so that the same recipe
    would give other bytes after each commit.
    """
    import onnx

    model = onnx.load(graph, load_external_data=False)
    model.producer_version = version("onnxruntime-genai")
    graph.write_bytes(model.SerializeToString(deterministic=True))
