"""``olivine export`` and ``olivine verify``: a trial as a model folder, and whether such a folder is whole."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from olivine.passes.errors import UsageError
from olivine.search.cli.command import Command
from olivine.search.cli.json_option import add_json, write_answer
from olivine.search.cli.options import MODEL, adapter_folders, add_adapters, add_hub_options, add_target, user_path
from olivine.search.cli.terminal import output
from olivine.search.report.say import say

if TYPE_CHECKING:
    from olivine.evaluators.quality.other_runtime import OtherRuntime
    from olivine.passes.parity.agreement import Agreement


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine export``."""
    parser.add_argument("study", type=user_path)
    parser.add_argument("--trial", type=int, help="trial number; the selected one by default")
    what = "with a script that runs it: a zip file, or a folder to build a container image from"
    parser.add_argument("--package", choices=("zip", "docker"), help=what)
    add_target(parser)
    add_adapters(parser)
    add_json(parser)


def export(options: argparse.Namespace) -> int:
    """Export a trial, as a folder or as a package."""
    from olivine.search.answers.folders import MadeFolder
    from olivine.search.export.adapters import adapter_notes
    from olivine.search.export.folder import MANIFEST
    from olivine.search.export.package import packaged_manifest
    from olivine.search.study.export_trial import chosen_record, export_trial, package_trial
    from olivine.search.study_dir import StudyDir

    study, out, adapters = StudyDir.open(options.study), output(), adapter_folders(options.adapters)
    if options.package:
        to = package_trial(study, options.trial, options.to, options.package, options.force, adapters)
        say(out, f"packaged as {to}; the README.md in it says how to run it")
    else:
        to = export_trial(study, options.trial, options.to, options.force, adapters)
        say(out, f"exported to {to}")
    notes = []
    if adapters:
        about = packaged_manifest(to) if options.package else json.loads((to / MANIFEST).read_text(encoding="utf-8"))
        notes = adapter_notes(about)
        for note in notes:
            say(out, note, style="yellow")
    write_answer(
        options, lambda: MadeFolder(path=str(to), trial=chosen_record(study, options.trial).number, notes=notes)
    )
    return 0


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``olivine verify``."""
    parser.add_argument("folder", type=user_path)
    what = f"also compare it with the checkpoint that it was made of: {MODEL}"
    parser.add_argument("--against", metavar="MODEL", help=what)
    add_hub_options(parser)
    what = "largest KL divergence of a quantized folder from --against, in nats a token"
    parser.add_argument("--max-kl", type=float, metavar="NATS", help=what)
    what = "also compare what it says under another environment's ONNX Runtime, and at accuracy level 1"
    parser.add_argument("--python", metavar="ENV", help=what)
    add_json(parser)


def verify(options: argparse.Namespace) -> int:
    """Check an exported folder against its manifest."""
    from olivine.search.answers.folders import verification_answer
    from olivine.search.export.graph_folder import VerifiedGraph
    from olivine.search.export.verify import verify_folder

    verified = verify_folder(options.folder)
    whole = f"{options.folder}: {verified.files} files are what was exported"
    if isinstance(verified, VerifiedGraph):
        state = f"the graph loads, and its output is what it was (cosine distance {verified.distance:.2g})"
    else:
        state = (
            f"the model loads, and predicts the check text at {verified.nll:.4f} nats a token "
            f"(at export: {verified.expected_nll:.4f})"
        )
        state += "".join(f", with adapter {name} at {nll:.4f}" for name, nll in verified.adapters.items())
    say(output(), f"{whole}; {state}")
    against, runtimes = _verify_further(options, isinstance(verified, VerifiedGraph))
    write_answer(options, lambda: verification_answer(options.folder, verified, against, runtimes))
    return 0


def _verify_further(
    options: argparse.Namespace, graph: bool
) -> tuple[tuple[str, Agreement] | None, Sequence[OtherRuntime]]:
    """Compare the folder with its checkpoint and with another environment, where they are named."""
    if options.against is None and options.python is None:
        return None, ()
    from olivine.search.export.verify_against import verify_against, verify_runtimes

    against, runtimes = None, []
    if graph:
        raise UsageError("--against and --python are for language models; this folder is another graph")
    if options.against is not None:
        agreement = verify_against(
            options.folder,
            options.against,
            revision=options.revision,
            trust_remote_code=options.trust_remote_code,
            max_kl=options.max_kl,
        )
        against = options.against, agreement
        say(output(), f"against {options.against}: {agreement.numbers()}")
        for gap in (*agreement.not_covered, *agreement.words):
            say(output(), gap)
    if options.python is not None:
        runtimes = verify_runtimes(options.folder, options.python)
        for other in runtimes:
            say(output(), other.sentence())
    return against, runtimes


COMMANDS = (
    Command("export", "export a trial as an ONNX Runtime GenAI folder", add_export_arguments, export),
    Command("verify", "check an exported folder: hashes, load, quality", add_verify_arguments, verify),
)
