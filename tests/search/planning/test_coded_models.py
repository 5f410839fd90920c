from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_coded import Codes, awq, coded_checkpoint, quantized

from olivine.passes.errors import UsageError
from olivine.search.cli.main import main
from olivine.search.planning.presets import TIERS, preset

ABOUT = {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}
STUDY = "model: {}\nspace: {{precision: [int8, as_it_came]}}\n"


def codes(name: str, weight: np.ndarray) -> Codes | None:
    return None if name == "lm_head.weight" else quantized(weight, 4, 32, symmetric=False)


@pytest.fixture
def coded(tiny_llama: Path, tmp_path: Path) -> Path:
    coded_checkpoint(tiny_llama, tmp_path / "coded", awq, ABOUT, codes)
    return tmp_path / "coded"


def test_codes_are_measured_first_beside_what_quantizes_anew() -> None:
    scope = TIERS["usual"].scope
    plain, own = (preset("cpu", "decode", "", scope, coded=coded) for coded in (False, True))
    assert own.enqueue == ({"precision": "as_it_came"}, *plain.enqueue)
    assert own.space == {**plain.space, "precision": [*plain.space["precision"], "as_it_came"]}
    assert preset("cpu", "decode", "int8", scope, coded=True) == preset("cpu", "decode", "int8", scope)


def test_doctor_tells_what_the_codes_are(coded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(coded)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "AWQ int4 group 32" in words
    assert "base: float32, dequantized from AWQ int4 group 32" in words


def test_plan_takes_a_model_of_codes_and_refuses_floats(
    coded: Path, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = tmp_path / "study.yaml"
    study.write_text(STUDY.format(coded) + "kernel_probe: false\n")
    assert main(["plan", str(study)]) == 0
    study.write_text(STUDY.format(tiny_llama) + "kernel_probe: false\n")
    capsys.readouterr()
    assert main(["plan", str(study)]) == 2
    assert "'as_it_came' takes the codes of a checkpoint" in " ".join(capsys.readouterr().err.split())


def test_exported_codes_say_what_their_base_is(coded: Path, tmp_path: Path) -> None:
    assert main(["build", str(coded), "--to", str(tmp_path / "built"), "--set", "precision=as_it_came"]) == 0
    card = "".join(path.read_text() for path in (tmp_path / "built").glob("*.md"))
    assert "dequantized from AWQ int4 group 32" in " ".join(card.split())


def test_optimize_refuses_codes_of_floats(tiny_llama: Path, tmp_path: Path) -> None:
    from olivine.passes.sources.source import resolve
    from olivine.search.workloads.codes import check_codes

    check_codes(["int8", "int4"], resolve(str(tiny_llama)))
    with pytest.raises(UsageError, match="--precision: 'as_it_came' takes the codes"):
        check_codes("as_it_came", resolve(str(tiny_llama)), "--precision")
