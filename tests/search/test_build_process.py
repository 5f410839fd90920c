from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from olivine.passes.errors import BuildFailed
from olivine.search.build_process import BuildProcess


@pytest.fixture
def process(tmp_path: Path) -> Iterator[BuildProcess]:
    found = BuildProcess(tmp_path)
    yield found
    found.close()


def test_one_that_dies_between_a_look_and_a_signal_is_told_by_its_build(
    process: BuildProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread waits for the build and reaps the process: its id is gone when it should stand still."""
    os.killpg(process._process.pid, signal.SIGKILL)
    process._process.wait()
    with monkeypatch.context() as patch:
        patch.setattr(BuildProcess, "alive", True)
        process.pause()
        process.resume()
    with pytest.raises(BuildFailed, match="died of SIGKILL"):
        process.run(tmp_path / "request.json", tmp_path / "response.json", 10)
