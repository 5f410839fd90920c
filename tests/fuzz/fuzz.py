"""Coverage-guided fuzzing of one reader (atheris, which is libFuzzer for Python).

    python tests/fuzz/fuzz.py yaml --runs 100000

begins with ``corpus/yaml``, keeps inputs that reach new code in ``build/fuzz/yaml``, and writes what it did to
``build/fuzz/yaml.json``. An exception that is no OlivineError, a hang of a minute, 2 GB of memory, or a file opened
outside
the folder of the input ends it with an error and leaves that input in ``build/fuzz``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

HOME = Path("build/fuzz")
HERE = Path(__file__).resolve().parent
#: Longer inputs reach nothing new, and take longer.
MAX_BYTES = {"yaml": 600, "gguf": 1024, "safetensors": 1024, "external": 1024}
#: A machine may be busy with other things: no reader takes a tenth of a second for such an input.
HANGS_S = 60
#: What guides it: the readers, and what they are made of.
INSTRUMENTED = [
    *("olivine.search.config.yaml_file", "yaml", "olivine.search.config.mistakes", "olivine.search.config.quantities"),
    *(
        "olivine.passes.sources.gguf.header",
        "olivine.passes.sources.weights.safetensors_header",
        "olivine.passes.sources.json_file",
        "json",
    ),
    *("olivine.passes.sources.external_data", "olivine.passes.sources.file_names", "olivine.passes.graph"),
]
#: What a hostile graph may call a file, and where it may begin.
LOCATIONS = [b"../secret", b"/etc/passwd", b"model.onnx.data", b"", b".", b"a/b", b"..\\secret", b"\xff\0", b"~/x"]
NUMBERS = [b"0", b"-1", b"4095", b"4096", b"18446744073709551615", b"1e3", b"0x10", b" 8", b"9" * 40, b""]


def mutate_external(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an entry of external data in a graph that still is one, or bytes."""
    import atheris
    import onnx
    from google.protobuf.message import DecodeError

    rng = random.Random(seed)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        return bytes(atheris.Mutate(data, len(data)))
    entries = [entry for tensor in model.graph.initializer for entry in tensor.external_data]
    if not entries or rng.random() < 0.4:
        return bytes(atheris.Mutate(data, max(1, len(data))))[:max_size]
    entry = rng.choice(entries)
    value = rng.choice(LOCATIONS if entry.key == "location" else NUMBERS)
    if rng.random() < 0.5:
        value = bytes(atheris.Mutate(value or b"x", 40))
    entry.value = value.decode("utf-8", "replace")
    if rng.random() < 0.2:
        model.graph.initializer[0].dims.append(rng.choice([0, -1, 7, 2**62]))
    return bytes(model.SerializeToString())[:max_size]


def mutate_safetensors(data: bytes, max_size: int, seed: int) -> bytes:
    """Change the JSON of a header and let its length fit, or change bytes."""
    import atheris

    if len(data) < 10 or seed % 3 == 0:
        return bytes(atheris.Mutate(data, max(1, len(data))))[:max_size]
    length = min(int.from_bytes(data[:8], "little"), len(data) - 8)
    header = bytes(atheris.Mutate(data[8 : 8 + length] or b"{}", max_size - 64))
    return (len(header).to_bytes(8, "little") + header + data[8 + length :])[:max_size]


MUTATORS = {"external": mutate_external, "safetensors": mutate_safetensors}


def fuzz(reader: str, runs: int, seed: int, seconds: int) -> None:
    """Fuzz in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        sys.path.insert(0, str(HERE))
        from readers import run

    kept = HOME / reader
    options = [
        f"-runs={runs}",
        f"-seed={seed}",
        f"-max_len={MAX_BYTES[reader]}",
        f"-timeout={HANGS_S}",
        "-rss_limit_mb=2048",
    ]
    options += [f"-artifact_prefix={HOME}/{reader}-finding-", "-print_final_stats=1", "-verbosity=1"]
    extra = {"custom_mutator": MUTATORS[reader]} if reader in MUTATORS else {}
    arguments = [sys.argv[0], *options, str(kept), str(HERE / "corpus" / reader)]
    atheris.Setup(arguments, lambda data: run(reader, data), **extra)
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader", choices=sorted(p.name for p in (HERE / "corpus").iterdir()))
    parser.add_argument("--runs", type=int, default=100_000, help="inputs, those of earlier calls included")
    parser.add_argument("--seconds", type=int, default=0, help="stop after so long, to go on with the next call")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    (HOME / options.reader).mkdir(parents=True, exist_ok=True)
    if options.child:
        fuzz(options.reader, *options.child, options.seconds)
    state = HOME / f"{options.reader}.json"
    about = json.loads(state.read_text()) if state.exists() else {"reader": options.reader, "inputs": 0, "seconds": 0}
    if about["inputs"] >= options.runs:
        print(about)
        return 0
    started = time.monotonic()
    # Another seed each time: a slice that goes on does not repeat the one before.
    done = subprocess.run(
        [sys.executable, *sys.argv, "--child", str(options.runs - about["inputs"]), str(about["inputs"] + 1)],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env={**os.environ, "FUZZ_FOLDER": os.environ.get("FUZZ_FOLDER", "/dev/shm")},
        check=False,
    )
    stats = dict(line.removeprefix("stat::").split(":", 1) for line in done.stderr.splitlines() if "stat::" in line)
    coverage = [line.split("cov: ")[1].split()[0] for line in done.stderr.splitlines() if "cov: " in line]
    about |= {
        "inputs": about["inputs"] + int(stats.get("number_of_executed_units", "0").strip() or 0),
        "findings": len(list(HOME.glob(f"{options.reader}-finding-*"))),
        "seconds": about["seconds"] + round(time.monotonic() - started),
        "coverage": int(coverage[-1]) if coverage else 0,
        "corpus": len(list((HERE / "corpus" / options.reader).iterdir())),
    }
    state.write_text(json.dumps(about))
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-60:]), file=sys.stderr)
    print(about)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
