"""``olivine serve``: the server that packages bring, for a folder that was not packaged."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

from olivine.evaluators.process.servers.provider import ProviderUnavailable, prove_provider
from olivine.passes.errors import OlivineError, UsageError
from olivine.passes.sources.genai_folder import read_genai_config
from olivine.search.export.serving.command import serve_folder
from olivine.search.export.serving.errors import Unusable


def serve(folder: Path, port: int, options: argparse.Namespace) -> None:
    """Serve a model folder until a signal ends it.

    Args:
        folder: of the model.
        port: 0 for any that is free.
        options: what the server's own ``add_arguments`` declares.

    Raises:
        UsageError: when the folder holds no model, or a web server is not installed.
        OlivineError: when the model does not load, its execution provider does not run here, or the address is taken.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UsageError(f"Serving needs {' and '.join(missing)}, not installed here: pip install 'olivine[serve]'")
    config = read_genai_config(folder)
    try:
        prove_provider(folder, config)
        serve_folder(folder, port, options)
    except (ProviderUnavailable, Unusable) as error:
        raise OlivineError(str(error)) from error
