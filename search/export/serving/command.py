"""Answer a prompt with a model folder, or serve it as OpenAI's chat completions.

python run.py "Tell me one fact about volcanoes."
python run.py --serve 8000
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from olivine.search.export.serving.adapters import check_adapter
from olivine.search.export.serving.chat_request import parse_request
from olivine.search.export.serving.errors import Refused, Unusable

MAX_NEW_TOKENS = 1024
AT_ONCE = 8


def main(folder: Path, arguments: list[str] | None = None) -> int:
    """Answer one prompt, or serve until a signal ends it.

    Args:
        folder: of the model.
        arguments: of the command line; those of the process by default.
    """
    parser = argparse.ArgumentParser(description="Answer a prompt, or serve the model as OpenAI's chat completions.")
    parser.add_argument("prompt", nargs="?", help="what to answer")
    parser.add_argument("--serve", type=int, metavar="PORT", help="serve HTTP on this port")
    parser.add_argument("--model", type=Path, default=folder, metavar="DIR")
    parser.add_argument("--adapter", metavar="NAME", help="the LoRA adapter that answers the prompt")
    add_arguments(parser)
    options = parser.parse_args(arguments)
    if (options.serve is None) == (options.prompt is None):
        parser.error("give a prompt, or --serve PORT")
    try:
        if options.serve is None:
            answer_prompt(options.model, options.prompt, options.max_new_tokens, options.adapter)
        else:
            serve_folder(options.model, options.serve, options)
    except Refused as error:
        parser.error(str(error))
    except Unusable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of a server, its port left out."""
    parser.add_argument("--host", default="127.0.0.1", help="address to serve on; by default this machine alone")
    parser.add_argument("--name", help="the model's name for clients; by default that of the model it was made of")
    what = "most tokens of an answer where a request does not say (%(default)s)"
    parser.add_argument("--max-new-tokens", type=_positive, default=MAX_NEW_TOKENS, metavar="N", help=what)
    what = "answers under way at the same time (%(default)s); each takes memory for its context"
    parser.add_argument("--at-once", type=_positive, default=AT_ONCE, metavar="N", help=what)


def answer_prompt(folder: Path, prompt: str, max_new_tokens: int, adapter: str | None = None) -> None:
    """Print the answer to a prompt as it comes.

    Raises:
        Refused: when the prompt is too long.
        Unusable: when the folder does not load, or has no such adapter.
    """
    from olivine.search.export.serving.model import Model, Piece

    model = Model(folder, 1, max_new_tokens)
    if adapter is not None:
        check_adapter(adapter, model.adapters)
    said = {"messages": [{"role": "user", "content": prompt}], "model": adapter}
    for step in model.answer(parse_request(json.dumps(said).encode())):
        if isinstance(step, Piece):
            print(step.text, end="", flush=True)
    print()


def serve_folder(folder: Path, port: int, options: argparse.Namespace) -> None:
    """Serve a model folder until a signal ends it.

    Args:
        folder: of the model.
        port: 0 for any that is free.
        options: what :func:`add_arguments` declares.

    Raises:
        Unusable: when the folder does not load, the address can't be served on, or an adapter has the model's name.
    """
    from olivine.search.export.serving.model import Model
    from olivine.search.export.serving.server import serve

    model = Model(folder, options.at_once, options.max_new_tokens)
    name = options.name or model_name(folder)
    if name in model.adapters:
        raise Unusable(f"the model and one of its adapters would both be {name!r} to clients; give another --name")
    serve(model, name, options.host, port, options.at_once)


def model_name(folder: Path) -> str:
    """The name of the model that the folder was made of, as olivine.json has it; else the folder's own."""
    manifest = folder / "olivine.json"
    if manifest.is_file():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["model"]["name"])
    return folder.resolve().name


def _positive(word: str) -> int:
    number = int(word)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{word} is less than 1")
    return number
