"""An exported model with a script that runs it: as a zip file, or as a folder to build a container image from."""

from __future__ import annotations

import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from olivine.passes.errors import UsageError
from olivine.passes.store.atomic_files import replace_folder, staged, staging_folder
from olivine.search.export import serving
from olivine.search.export.folder import MANIFEST
from olivine.search.export.model_card import runtime_pins

KINDS = ("zip", "docker")
MODEL, SCRIPT, SERVING, REQUIREMENTS, DOCKERFILE = "model", "run.py", "serving", "requirements.txt", "Dockerfile"
#: What renders chat templates and serves HTTP, in the versions that olivine is tested with.
SERVER_PINS = ("Jinja2==3.1.6", "starlette==1.10.0", "uvicorn==0.54.0")
#: The earliest time that a zip file can hold: the same files give the same bytes.
_TIME = (1980, 1, 1, 0, 0, 0)
_FILE_MODE = 0o100644 << 16
_COPIED_BYTES = 1 << 20

_RUN = f"""\
\"\"\"Answer a prompt with the model beside this file, or serve it: ``python {SCRIPT} --help``.\"\"\"

import sys
from pathlib import Path

from {SERVING}.command import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent / "{MODEL}"))
"""

#: The image has the Python whose packages were pinned.
_IMAGE = f"""\
# docker build -t NAME . && docker run --rm -p 8000:8000 NAME
FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim
WORKDIR /app
COPY {REQUIREMENTS} ./
RUN pip install --no-cache-dir -r {REQUIREMENTS}
COPY {MODEL} ./{MODEL}
COPY {SERVING} ./{SERVING}
COPY {SCRIPT} ./
RUN useradd --create-home runner
USER runner
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \\
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["python", "{SCRIPT}", "--serve", "8000", "--host", "0.0.0.0"]
"""
_REQUEST = """\
    curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "Tell me one fact about volcanoes."}]}'

or, by any client of OpenAI's chat completions, such as OpenAI's own for Python:

    client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
    model = client.models.list().data[0].id
    messages = [{"role": "user", "content": "Tell me one fact about volcanoes."}]
    for chunk in client.chat.completions.create(model=model, messages=messages, stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)

Several requests are answered side by side. The next turn of a chat computes its new tokens alone, as `cached_tokens` of
its usage says; a request with a `seed` begins anew, so that the same request has the same answer. There is no login and
no encryption: what faces strangers needs a proxy in front.
"""
_PAGE = {
    "zip": f"""\
    python -m venv .venv
    .venv/bin/pip install -r {REQUIREMENTS}
    .venv/bin/python {SCRIPT} "Tell me one fact about volcanoes."

To serve it on this machine:

    .venv/bin/python {SCRIPT} --serve 8000

and then

{_REQUEST}""",
    "docker": f"""\
    docker build -t model .
    docker run --rm -p 8000:8000 model

and then

{_REQUEST}
`GET /health` says that the model is loaded. The server is part of olivine's tests; the image is not.
""",
}


def package_model(export: Callable[[Path], object], provider: str, to: Path, kind: str) -> Path:
    """Export a model and put beside it a script that runs it; whole or absent.

    Args:
        export: writes the model to a folder.
        provider: that runs it.
        to: the zip file, or the folder with the Dockerfile.
        kind: one of ``KINDS``.
    """
    to.parent.mkdir(parents=True, exist_ok=True)
    with staging_folder(to.parent, to.name) as folder:
        export(folder / MODEL)
        fill(folder, kind, provider)
        if kind == "zip":
            zip_folder(folder, to)
        else:
            replace_folder(folder, to)
    return to


def packaged_manifest(to: Path) -> dict[str, Any]:
    """The manifest of the model in a package, a zip file or a folder."""
    if to.is_dir():
        content = (to / MODEL / MANIFEST).read_bytes()
    else:
        with zipfile.ZipFile(to) as archive:
            content = archive.read(f"{to.stem}/{MODEL}/{MANIFEST}")
    manifest: dict[str, Any] = json.loads(content)
    return manifest


def check_place(to: Path, kind: str, force: bool) -> None:
    """Refuse to overwrite a file or folder, with ``force`` too where it is no package of this kind.

    Raises:
        UsageError: naming it.
    """
    if kind == "zip" and to.suffix != ".zip":
        raise UsageError(f"--to {to}: a zip package is a file; give it a name that ends with .zip")
    if not to.exists():
        return
    if not force:
        raise UsageError(f"{to} exists already; give another name, or --force to replace it")
    if kind == "zip" and not (to.is_file() and zipfile.is_zipfile(to)):
        raise UsageError(f"{to} is no zip file, so --force does not replace it")
    if kind == "docker" and not (to.is_dir() and (not any(to.iterdir()) or (to / DOCKERFILE).is_file())):
        raise UsageError(f"{to} is no folder with a {DOCKERFILE}, so --force does not replace it")


def fill(folder: Path, kind: str, provider: str) -> None:
    """Write script, its modules, requirements, page and Dockerfile beside the exported model in ``folder/model``."""
    manifest = json.loads((folder / MODEL / MANIFEST).read_text(encoding="utf-8"))
    pins = (*runtime_pins(provider, manifest["versions"]), *SERVER_PINS)
    (folder / SCRIPT).write_text(_RUN, encoding="utf-8")
    (folder / SERVING).mkdir()
    for file in sorted(Path(serving.__file__).parent.glob("*.py")):
        content = file.read_text(encoding="utf-8").replace(f"from {serving.__name__}.", f"from {SERVING}.")
        (folder / SERVING / file.name).write_text(content, encoding="utf-8")
    (folder / REQUIREMENTS).write_text("".join(f"{pin}\n" for pin in pins), encoding="utf-8")
    page = f"What this model is, and how good: [{MODEL}/README.md]({MODEL}/README.md). To run it:\n\n{_PAGE[kind]}"
    (folder / "README.md").write_text(page, encoding="utf-8")
    if kind == "docker":
        (folder / DOCKERFILE).write_text(_IMAGE, encoding="utf-8")


def zip_folder(folder: Path, to: Path) -> None:
    """Write the files of ``folder`` below one folder of the zip's own name; the same files give the same bytes.

    Entries are sorted, times fixed, and nothing is compressed: weights hardly shrink, and compressors differ.
    """
    with staged(to) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.relative_to(folder).parts):
            entry = zipfile.ZipInfo(f"{to.stem}/{file.relative_to(folder).as_posix()}", _TIME)
            entry.create_system, entry.external_attr = 3, _FILE_MODE
            entry.file_size = file.stat().st_size  # so that files of 4 GB and more get the large form
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, _COPIED_BYTES)
