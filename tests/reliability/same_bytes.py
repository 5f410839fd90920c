"""Two versions of olivine build the same recipes of the demo model and of MiniLM: every file has the same bytes.

    python tests/reliability/same_bytes.py OLD/.venv/bin/olivine NEW/.venv/bin/olivine

Each version gets an empty cache of its own, so that it builds everything itself; what was fetched is shared. Folders
are removed once their files are hashed. The manifest and the model card are left out: they name versions and times.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tiny import tiny_checkpoint

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NO_PARTS_OF_THE_MODEL = ("olivine.json", "README.md")
LEARNS = {"calibrate-text": "demo:news", "calibrate-windows": 4}
MIXED = {"precision": "mixed", "algorithm": "gptq", "int8_share": 0.75, "fusion_level": "full"}
#: Name -> axes, and what a recipe learns from.
DEMO: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
    "fp32": ({}, {}),
    "int8": ({"precision": "int8", "block_size": 128}, {}),
    "int8 with int8 activations, smoothed": ({"precision": "int8", "activations": "int8", "smooth": True}, LEARNS),
    "int4 rtn": ({"precision": "int4", "block_size": 32, "embedding": "int8"}, {}),
    "int4 k_quant": ({"precision": "int4", "algorithm": "k_quant", "block_size": 64, "lm_head": "int8"}, {}),
    "int4 gptq": ({"precision": "int4", "algorithm": "gptq", "block_size": 64}, LEARNS),
    "mixed": ({**MIXED, "block_size": 16, "activations": "int8", "dynamic_share": 0.8, "embedding": "int8"}, LEARNS),
    "int8 with the head of the prompt's end alone": ({"precision": "int8", "prune_head": True}, {}),
}
#: Of a tiny random checkpoint: the demo model is rotated as it comes.
ROTATED = {"precision": "int4", "algorithm": "rtn", "rotate": True, "fusion_level": "full"}
MINILM: dict[str, Mapping[str, Any]] = {
    "dynamic": {"fusion_level": "full", "precision": "int8", "activations": "dynamic"},
    "dynamic embedding": {"fusion_level": "none", "precision": "int8", "activations": "dynamic", "embedding": "int8"},
    "static minmax": {"fusion_level": "full", "precision": "int8", "activations": "static", "calibration": "minmax"},
    "static entropy": {"fusion_level": "basic", "precision": "int8", "activations": "static", "calibration": "entropy"},
    "static percentile": {
        "fusion_level": "full",
        "precision": "int8",
        "activations": "static",
        "calibration": "percentile",
        "float_down": True,
    },
    "int4": {"fusion_level": "full", "precision": "int4", "block_size": 32},
    "fused": {"fusion_level": "full", "precision": "fp32"},
}
WHICH = ("first", "second")
#: File of a built folder -> its sha256.
Hashes = dict[str, str]


class Version:
    """One installed olivine with a cache and a scratch folder of its own.

    Args:
        command: its ``olivine``.
        home: where it may write.
        assets: the folder of fetched demo assets that versions share.
    """

    def __init__(self, command: Path, home: Path, assets: Path) -> None:
        self._command, self._home = command.absolute(), home
        cache = home / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        (cache / "demo").unlink(missing_ok=True)
        (cache / "demo").symlink_to(assets)
        self._environment = {**os.environ, "OLIVINE_CACHE": str(cache)}

    def language(self, model: str, choice: Mapping[str, Any], learns: Mapping[str, Any]) -> Hashes:
        """Hashes of one recipe of a language model."""
        settings = [f"--set={axis}={json.dumps(value)}" for axis, value in {"threads": 2, **choice}.items()]
        text = [f"--{name}={value}" for name, value in learns.items()]
        return self._hashed("build", model, *settings, *text)

    def minilm(self, choices: Sequence[Mapping[str, Any]]) -> list[Hashes]:
        """Hashes of recipes of MiniLM: a study measures them in a moment, and each of its trials is exported."""
        study, config = self._home / "study", self._home / "minilm.yaml"
        shutil.rmtree(study, ignore_errors=True)
        raw = yaml.safe_load((CONFIGS / "minilm.yaml").read_text())
        quick = {
            "enqueue": [dict(choice) for choice in choices],
            "stop": {"trials": len(choices)},
            "evaluation": {"latency": {"half_width": 0.5, "max_seconds": 0.1}},
            "confirm": {"members": 1, "race": None},
            "select": {"by": "objective", "metric": "latency_ms"},
        }
        config.write_text(yaml.safe_dump({**raw, **quick, "space": {**raw["space"], "threads": 2}}))
        self._olivine("run", str(config), "--out", str(study))
        return [self._hashed("export", str(study), "--trial", str(number + 1)) for number in range(len(choices))]

    def _hashed(self, *arguments: str) -> Hashes:
        folder = self._home / "built"
        shutil.rmtree(folder, ignore_errors=True)
        self._olivine(*arguments, "--to", str(folder))
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        shutil.rmtree(folder)
        return {name: value for name, value in hashes.items() if name not in NO_PARTS_OF_THE_MODEL}

    def _olivine(self, *arguments: str) -> None:
        command = [str(self._command), *arguments]
        run = subprocess.run(command, env=self._environment, capture_output=True, text=True)
        if run.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {run.returncode}:\n{run.stdout}{run.stderr}")


def build_all(version: Version, tiny: Path, known: dict[str, Hashes], keep: Path) -> dict[str, Hashes]:
    """Hashes of every recipe; those that are known are not built again, and each is written as it comes."""
    hashes = dict(known)
    recipes = {f"demo: {name}": ("demo:smollm2-135m-instruct", *recipe) for name, recipe in DEMO.items()}
    for name, recipe in {**recipes, "tiny: int4 rotated": (str(tiny), ROTATED, {})}.items():
        if name not in hashes:
            hashes[name] = version.language(*recipe)
            keep.write_text(json.dumps(hashes, indent=1))
            print(f"built {name}", flush=True)
    names = [f"MiniLM: {name}" for name in MINILM]
    if not set(names) <= set(hashes):
        hashes.update(zip(names, version.minilm(list(MINILM.values())), strict=True))
        keep.write_text(json.dumps(hashes, indent=1))
        print("built MiniLM", flush=True)
    return hashes


def main() -> int:
    """Build with both, print a line a recipe; return 1 where files differ or keys of the cache are lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs=2, type=Path, metavar="OLIVINE", help="the olivine command of a version")
    parser.add_argument("--home", type=Path, default=Path("build/same-bytes"), help="for caches, studies and hashes")
    parser.add_argument("--assets", type=Path, default=Path.home() / ".cache/olivine/demo", help="fetched demo assets")
    parser.add_argument("--keep", action="store_true", help="go on with hashes and caches of an earlier call")
    arguments = parser.parse_args()
    tiny = arguments.home.absolute() / "tiny"
    if not tiny.exists():
        tiny_checkpoint(tiny)
    results = []
    for which, command in zip(WHICH, arguments.versions, strict=True):
        home = (arguments.home / which).absolute()
        if not arguments.keep:
            shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True, exist_ok=True)
        arguments.assets.mkdir(parents=True, exist_ok=True)
        keep = home / "hashes.json"
        known = json.loads(keep.read_text()) if keep.exists() else {}
        results.append(build_all(Version(command, home, arguments.assets.absolute()), tiny, known, keep))
    first, second = results
    for name, files in first.items():
        differing = sorted(file for file in files.keys() | second[name] if files.get(file) != second[name].get(file))
        print(f"{name}: {'differs in ' + ', '.join(differing) if differing else f'{len(files)} files, the same'}")
    keys = [{path.name for path in (arguments.home / which / "cache/artifacts").iterdir()} for which in WHICH]
    print(f"cache: {len(keys[0])} keys, {len(keys[0] - keys[1])} lost, {len(keys[1] - keys[0])} new")
    return int(first != second or not keys[0] <= keys[1])


if __name__ == "__main__":
    sys.exit(main())
