"""``olivine serve``: the packaged server for a folder that was exported without it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from olivine.search.cli.main import main
from olivine.search.export import serve as command


def test_it_serves_a_folder_until_a_signal(tiny_onnx: Path) -> None:
    words = [sys.executable, "-m", "olivine.search.cli.main", "serve", str(tiny_onnx), "--port", "0", "--name", "mine"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with urllib.request.urlopen(f"{url}/models", timeout=60) as response:
            assert [model["id"] for model in json.load(response)["data"]] == ["mine"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_no_model_and_no_web_server_are_mistakes(
    tmp_path: Path, tiny_onnx: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(tmp_path)]) == 2
    assert "genai_config.json" in capsys.readouterr().err
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert main(["serve", str(tiny_onnx)]) == 2
    assert "Serving needs uvicorn, not installed here: pip install 'olivine[serve]'" in capsys.readouterr().err
