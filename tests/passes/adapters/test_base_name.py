"""Names of bases: when an adapter's config names another model than the one that it is exported with."""

from __future__ import annotations

from pathlib import Path

import pytest

from olivine.passes.adapters.base_name import names_another


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("", ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")),
        ("Qwen/Qwen3-0.6B", ("qwen/qwen3-0.6b",)),
        ("/data/models/Qwen3-0.6B/", ("Qwen/Qwen3-0.6B",)),
        ("C:\\models\\Qwen3-0.6B", ("Qwen/Qwen3-0.6B",)),
        ("Qwen/Qwen3-0.6B", ("./Qwen3-0.6B", "Qwen3-0.6B")),
        ("/home/a/hub/models--Qwen--Qwen3-0.6B/snapshots/0a1b2c", ("Qwen/Qwen3-0.6B",)),
        ("Qwen/Qwen3-0.6B", ("models/Qwen3-0.6B.Q4_K_M.gguf", "Qwen3-0.6B.Q4_K_M")),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", ("demo:smollm2-135m-instruct", "smollm2-135m-instruct")),
        ("demo:smollm2-135m-instruct", ("demo:smollm2-135m-instruct", "smollm2-135m-instruct")),
    ],
)
def test_names_of_one_model_are_one(base: str, names: tuple[str, ...]) -> None:
    assert not names_another(base, names)


@pytest.mark.parametrize(
    ("base", "names"),
    [
        ("Qwen/Qwen3-0.6B-Base", ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")),
        ("mine/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B")),
        ("/data/models/Qwen3-1.7B", ("Qwen/Qwen3-0.6B",)),
        ("Qwen/Qwen3-0.6B", ("models/Qwen3-0.6B-Base", "Qwen3-0.6B-Base")),
        ("Qwen/Qwen3-0.6B", ("models/Qwen3-0.6.Q4_K_M.gguf", "Qwen3-0.6.Q4_K_M")),
    ],
)
def test_names_of_two_models_are_two(base: str, names: tuple[str, ...]) -> None:
    assert names_another(base, names)


def test_a_folder_is_one_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "other").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not names_another(str(tmp_path / "mine" / "other" / ".."), ("./mine", "mine"))
