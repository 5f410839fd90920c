from __future__ import annotations

import platform
from pathlib import Path

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.cpu import cpu_identity, cpu_name, int8_sums_saturate


@pytest.mark.parametrize(
    ("machine", "flags", "saturates"),
    [
        ("x86_64", "fpu sse2 avx2", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni", False),
        ("x86_64", None, True),
        ("aarch64", None, False),
    ],
)
def test_sums_saturate_on_x86_without_vnni(
    machine: str, flags: str | None, saturates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n")
    assert int8_sums_saturate(cpuinfo) == saturates


def test_the_default_range_is_what_this_cpu_sums_exactly() -> None:
    choice = LANGUAGE.canonical({"precision": "int8", "activations": "int8"})
    assert choice["reduce_range"] is int8_sums_saturate()
    assert "reduce_range" not in LANGUAGE.canonical({"precision": "int8"})


def test_a_processor_is_told_by_its_name_and_instructions(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu avx2\nbugs\t\t:\n")
    assert (cpu_name(cpuinfo), cpu_identity(cpuinfo)) == ("AMD EPYC", "AMD EPYC: fpu avx2")
    assert cpu_identity(tmp_path / "nothing") == cpu_name(tmp_path / "nothing")
