"""Build llama.cpp for the processor at hand, out of the source distribution of llama-cpp-python.

    python build_llama.py llama-cpp-python==0.3.36 --to envs/peers/llama.cpp

Some minutes on 2 cores, under the interpreter of ``envs/peers/python``, which has CMake and Ninja. The folder then
holds the source, and below ``build/bin`` the library, which loads, runs and quantizes models.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

#: Native code for this processor, but for AMX, in which this version faults on virtual machines; nothing that needs a
#: network, a server or a browser.
_FLAGS = "-mno-amx-int8 -mno-amx-tile -mno-amx-bf16" if platform.machine() == "x86_64" else ""
SETTINGS = {
    "CMAKE_C_FLAGS": _FLAGS,
    "CMAKE_CXX_FLAGS": _FLAGS,
    "CMAKE_BUILD_TYPE": "Release",
    "GGML_NATIVE": "ON",
    "BUILD_SHARED_LIBS": "ON",
    "LLAMA_CURL": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_TOOLS": "OFF",
}


def main() -> None:
    """Fetch, unpack, configure, compile."""
    parser = argparse.ArgumentParser()
    parser.add_argument("requirement")
    parser.add_argument("--to", type=Path, required=True)
    options = parser.parse_args()
    programs = Path(sysconfig.get_path("scripts"))
    source, build = options.to / "vendor" / "llama.cpp", options.to / "build"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=:all:"]
        # pip asks its build backend for metadata; with the one that is installed here it fetches no other.
        subprocess.run([*command, "--no-build-isolation", "--dest", scratch, options.requirement], check=True)
        (archive,) = Path(scratch).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (unpacked,) = (path for path in Path(scratch).iterdir() if path.is_dir())
        shutil.copytree(unpacked, options.to, symlinks=True, dirs_exist_ok=True)
    settings = [f"-D{name}={value}" for name, value in SETTINGS.items()]
    configure = [programs / "cmake", "-S", source, "-B", build, "-G", "Ninja", *settings]
    subprocess.run([*configure, f"-DCMAKE_MAKE_PROGRAM={programs / 'ninja'}"], check=True)
    subprocess.run([programs / "ninja", "-C", build, "llama"], check=True)


if __name__ == "__main__":
    main()
