"""Export: a candidate as a complete ONNX Runtime GenAI folder with its manifest; whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from olivine.evaluators.data.tokenizing import tokenize
from olivine.passes.adapters.adapter_set import AdapterSet
from olivine.passes.artifact import ABOUT, GENAI_CONFIG, ModelArtifact
from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import replace_folder, staging_folder
from olivine.passes.store.digests import sha256_file
from olivine.search.export.adapters import export_adapters
from olivine.search.export.compact_json import copy_compact
from olivine.search.export.likelihood import negative_log_likelihood
from olivine.search.export.model_card import card

MANIFEST, CARD, PICTURE = ABOUT
TOKENIZER = "tokenizer.json"
FORMAT = 1
#: Text that a model predicts when its folder is verified: plain prose, whatever the study's text was.
CHECK_TEXT = (
    "Olivine is a mineral that crystallizes early from magma, at high temperature. It is made of magnesium, iron, "
    "silicon and oxygen, and it gives the upper mantle of the Earth most of its mass. When it is clear and green, "
    "people cut it into gems and call it peridot. Water and air slowly turn it into clay, serpentine and iron oxide, "
    "which is why it is common in fresh lava but rare in old soil. A few beaches on volcanic islands are green, "
    "because waves carry the light grains of ash away and leave the heavier crystals behind."
)
CHECK_TOKENS = 128


def export_model(
    artifact: ModelArtifact,
    to: Path,
    manifest: Mapping[str, Any],
    process: Mapping[str, Any] | None = None,
    picture: str = "",
    adapters: AdapterSet | None = None,
) -> Path:
    """Copy an artifact, load it in a fresh process, write its manifest and its card, and rename it into place.

    Args:
        artifact: the candidate.
        to: the folder to make.
        manifest: as :func:`olivine.search.export.manifest.make_manifest` makes it.
        process: options of the process that runs the model, as :meth:`ModelProcess.start` takes them; by default those
            of its provider.
        picture: the front that it was chosen from, as SVG.
        adapters: to export with it; its graph has places for them.

    Raises:
        ModelProcessFailed: when the copy does not run.
        WrongGraph: when an adapter does not do in it what it does in the checkpoint.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as staging:
        for file in artifact.files():
            target = staging / file.relative_to(artifact.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            (copy_compact if file.name == TOKENIZER else shutil.copyfile)(file, target)
        tokens = check_tokens(staging)
        about = dict(manifest)
        if adapters is not None:
            graph = artifact.onnx_path()
            about["adapters"] = export_adapters(adapters, staging, graph, manifest, tokens, process)
        (staging / CARD).write_text(card(about, PICTURE if picture else ""), encoding="utf-8")
        if picture:
            (staging / PICTURE).write_text(picture, encoding="utf-8")
        whole = {
            "format": FORMAT,
            **about,
            "check": {"tokens": tokens, "nll": negative_log_likelihood(staging, tokens, process)},
            "files": file_table(staging),
            "card": card_table(staging),
        }
        (staging / MANIFEST).write_text(json.dumps(whole, indent=1), encoding="utf-8")
        replace_folder(staging, to)
    return to


def copy_model(folder: Path, to: Path) -> Path:
    """Copy an exported folder, manifest and all; whole or absent, and in the place of what was there."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as staging:
        shutil.copytree(folder, staging, dirs_exist_ok=True)
        replace_folder(staging, to)
    return to


def check_target(to: Path, force: bool, marker: str = GENAI_CONFIG) -> None:
    """Refuse to overwrite a folder, with ``force`` too where it is no exported model.

    Args:
        to: the folder.
        force: replace an earlier export.
        marker: the file that every exported folder of this kind of model has.

    Raises:
        UsageError: naming the folder.
    """
    if not to.exists():
        return
    if not force:
        raise UsageError(f"{to} exists already; give another folder, or --force to replace it")
    if not to.is_dir() or (any(to.iterdir()) and not (to / marker).is_file()):
        raise UsageError(f"{to} is no model folder, so --force does not replace it")


def file_table(folder: Path) -> dict[str, dict[str, Any]]:
    """Name -> SHA-256 and bytes of every file of the model: of all but manifest, card and picture."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return _hashes(folder, [p for p in files if p.relative_to(folder).as_posix() not in ABOUT])


def card_table(folder: Path) -> dict[str, dict[str, Any]]:
    """The same of the card and its picture, which a rebuilt model does not have in common with the first one."""
    return _hashes(folder, [folder / name for name in (CARD, PICTURE) if (folder / name).is_file()])


def _hashes(folder: Path, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    return {p.relative_to(folder).as_posix(): {"sha256": sha256_file(p), "bytes": os.stat(p).st_size} for p in files}


def check_tokens(folder: Path) -> list[int]:
    """Token ids of the check text, as the folder's tokenizer sees it."""
    text = tokenize(CHECK_TEXT, folder)
    return [*text.bos, *text.ids][:CHECK_TOKENS]
