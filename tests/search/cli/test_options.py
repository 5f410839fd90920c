"""Options that several commands share."""

from __future__ import annotations

import pytest

from olivine.search.cli.main import parser


@pytest.mark.parametrize("command", ["bench", "eval"])
def test_a_half_width_is_a_share(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([command, "a", "--half-width", "1%"]).half_width == pytest.approx(0.01)
    for wrong in ("0", "200%", "wide"):
        with pytest.raises(SystemExit) as caught:
            parser().parse_args([command, "a", "--half-width", wrong])
        assert caught.value.code == 2
        assert f"'{wrong}' is no share between 0 and 1; give it as 2% or 0.02" in capsys.readouterr().err
