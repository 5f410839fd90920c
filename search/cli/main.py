"""``olivine``: parse the command line, run the command, turn errors and signals into exit codes."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from olivine.passes.errors import OlivineError
from olivine.passes.store.secrets import masked
from olivine.search.cli.commands import all_commands
from olivine.search.cli.error_messages import clear_error
from olivine.search.cli.json_option import answer_apart, json_words
from olivine.search.cli.terminal import errors, prepare_streams
from olivine.search.report.say import say

FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 mistake, 3 nothing qualifies, 130 interrupted."""
    prepare_streams()
    options = parser().parse_args(json_words(sys.argv[1:] if arguments is None else arguments))
    quiet_libraries()
    with _termination_interrupts():
        return _run(options)


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; parsed options hold the function of their command as ``run``."""
    root = argparse.ArgumentParser(
        prog="olivine", description="Search-driven AutoML optimizer for ONNX language models."
    )
    root.add_argument("--debug", action="store_true", help="show a traceback with an error")
    groups = {"": root.add_subparsers(title="commands", required=True, metavar="COMMAND")}
    for command in all_commands():
        group, _, name = command.name.rpartition(" ")
        if group not in groups:
            words = groups[""].add_parser(group, help=command.group)
            groups[group] = words.add_subparsers(title="commands", required=True, metavar="COMMAND")
        own = groups[group].add_parser(name, help=command.text, description=command.text)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return root


def _run(options: argparse.Namespace) -> int:
    """Run a parsed command; an error becomes one message for a person, and a traceback with ``--debug`` alone."""
    try:
        with answer_apart(options):
            code: int = options.run(options)
        sys.stdout.flush()
    except OlivineError as error:
        if options.debug:
            traceback.print_exc()
        return _failed(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _failed("stopped", INTERRUPTED)
    except Exception as error:
        if options.debug:
            raise
        unexpected = f"{type(error).__name__}: {error} (--debug shows where)"
        return _failed(clear_error(error) or unexpected, FAILED)
    return code


def _failed(message: object, code: int) -> int:
    say(errors(), f"olivine: {masked(str(message))}")
    return code


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Treat a reboot and a closed terminal like a second Ctrl-C: stop at once, with nothing left behind."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signals = [signal.SIGTERM, signal.SIGHUP] if threading.current_thread() is threading.main_thread() else []
    before = {number: signal.getsignal(number) for number in signals}
    for number in signals:
        if before[number] is signal.SIG_DFL:  # nohup ignores one of them, and that stays
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, before[number])


def quiet_libraries() -> None:
    """Switch off progress bars and advice of other libraries."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")


if __name__ == "__main__":
    sys.exit(main())
