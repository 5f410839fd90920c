"""``olivine chat``: talk to an exported folder."""

from __future__ import annotations

import argparse

from olivine.search.cli.command import Command
from olivine.search.cli.options import user_path
from olivine.search.cli.terminal import output


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine chat``."""
    parser.add_argument("folder", type=user_path)
    parser.add_argument("--prompt", help="one prompt instead of a conversation")
    parser.add_argument("--max-new-tokens", type=int, default=256)


def run(options: argparse.Namespace) -> int:
    """Answer one prompt, or hold a conversation."""
    from olivine.search.export.chat import chat

    chat(options.folder, options.prompt, options.max_new_tokens, output())
    return 0


COMMANDS = (Command("chat", "talk to an exported folder", add_arguments, run),)
