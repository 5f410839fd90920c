"""``olivine chat`` and ``olivine serve``: talk to an exported folder, here or over HTTP."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.options import user_path
from olivine.search.cli.terminal import output
from olivine.search.export.serving.command import add_arguments as add_server_arguments


def add_chat_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine chat``."""
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--prompt", help="one prompt instead of a conversation")
    parser.add_argument("--max-new-tokens", type=int, default=256)
    parser.add_argument("--adapter", metavar="NAME", help="the folder's LoRA adapter that answers")


def chat(options: argparse.Namespace) -> int:
    """Answer one prompt, or hold a conversation."""
    from olivine.search.export.chat import chat

    chat(options.folder, options.prompt, options.max_new_tokens, output(), options.adapter)
    return 0


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine serve``."""
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--port", type=int, default=8000, help="%(default)s by default; 0 for any that is free")
    add_server_arguments(parser)


def serve(options: argparse.Namespace) -> int:
    """Serve until a signal ends it."""
    from olivine.search.export.serve import serve

    serve(options.folder, options.port, options)
    return 0


COMMANDS = (
    Command("chat", "talk to an exported folder", add_chat_arguments, chat),
    Command("serve", "serve an exported folder as OpenAI's chat completions", add_serve_arguments, serve),
)
