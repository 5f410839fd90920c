"""The license of a base model: what its card states, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from olivine.passes.sources.license import license_of_folder, license_of_tags


@pytest.mark.parametrize(
    ("page", "stated"),
    [
        ("---\nlicense: apache-2.0\ntags: [x]\n---\n# Model\n", "apache-2.0"),
        ("---\nlicense: 'mit'\n---\n", "mit"),
        ("---\nlicense: other\nlicense_name: llama3.2\n---\n", "llama3.2"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense: <script>alert(1)</script>\n---\n", ""),
        ("# Model\n\nlicense: mit\n", ""),
        ("", ""),
    ],
)
def test_it_is_what_the_front_matter_says(tmp_path: Path, page: str, stated: str) -> None:
    (tmp_path / "README.md").write_text(page)
    assert license_of_folder(tmp_path) == stated


def test_a_folder_without_a_card_states_none(tmp_path: Path) -> None:
    assert license_of_folder(tmp_path) == ""
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\xfe\n---\n")
    assert license_of_folder(tmp_path) == ""


def test_the_hub_has_it_among_the_tags() -> None:
    assert license_of_tags(["safetensors", "license:gemma"]) == "gemma"
    assert license_of_tags(["safetensors"]) == ""
