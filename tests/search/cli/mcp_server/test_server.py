"""``olivine mcp``, driven by the SDK's own client over standard input and output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import yaml
from mcp import Client, StdioServerParameters
from study_folder import write_study
from tiny_study import tiny_yaml, write_text

from olivine.search.answers.folders import MadeFolder
from olivine.search.answers.planned import StudyPlan, Validity
from olivine.search.answers.study import Front, Status
from olivine.search.cli.main import main
from olivine.search.cli.mcp_server.command_line import error_message

SERVER = ["-m", "olivine.search.cli.main", "mcp"]
TOOLS = {"validate", "plan", "run", "status", "front", "export", "stop"}


@asynccontextmanager
async def connected(root: Path, *options: str) -> AsyncIterator[Client]:
    """A client of a server that writes below a folder."""
    arguments = [*SERVER, "--root", str(root), *options]
    env = {"OLIVINE_CACHE": os.environ["OLIVINE_CACHE"], "HF_HUB_OFFLINE": "1"}
    with anyio.fail_after(280):
        async with Client(StdioServerParameters(command=sys.executable, args=arguments, env=env)) as client:
            yield client


async def answered(client: Client, tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return str(getattr(result.content[0], "text", ""))


async def ended(client: Client) -> Status:
    """The state of the study once its process has ended."""
    while (status := Status.model_validate(await answered(client, "status", study="study"))).state == "running":
        await anyio.sleep(0.3)
    return status


def write_config(folder: Path, model: Path | str, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(tiny_yaml(Path(model), write_text(folder / "text.txt"), **changes)))
    return path


def test_an_agent_plans_runs_stops_resumes_and_exports_a_study(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path, tiny_llama, confirm={"members": 1, "race": None})

    async def life() -> tuple[Status, Front, MadeFolder]:
        async with connected(tmp_path) as client:
            valid = Validity.model_validate(await answered(client, "validate", config="study.yaml"))
            assert valid.valid
            plan = StudyPlan.model_validate(await answered(client, "plan", config="study.yaml"))
            assert plan.candidates == 6
            begun = Status.model_validate(await answered(client, "run", config="study.yaml", out="study", trials=1))
            assert (begun.study, begun.state) == (str(tmp_path / "study"), "running")
            again = await refused(client, "run", config="study.yaml", out="study")
            assert "is being run by process" in again
            assert again.endswith("(exit code 2)")
            await answered(client, "stop", study="study")
            assert (await ended(client)).state == "stopped"
            await answered(client, "run", config="study.yaml", out="study", trials=1)
            status = await ended(client)
            front = Front.model_validate(await answered(client, "front", study="study"))
            made = MadeFolder.model_validate(await answered(client, "export", study="study", to="model"))
            assert "exists already" in await refused(client, "export", study="study", to="model")
            return status, front, made

    status, front, made = anyio.run(life)
    assert (status.state, sum(status.trials.values()), status.selected) == ("ended", 1, 1)
    assert [member.trial for member in front.members] == [1]
    assert (made.path, made.trial) == (str(tmp_path / "model"), 1)
    assert (tmp_path / "model" / "genai_config.json").is_file()
    assert "trial" in (tmp_path / "study" / "run.log").read_text()
    assert main(["front", str(tmp_path / "study"), "--json"]) == 0
    assert front == Front.model_validate_json(capsys.readouterr().out)


def test_errors_are_those_of_the_command_line_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    config = write_config(tmp_path, tmp_path / "no-model")
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("model: m\nspace: {precision: [int3, int4]}\n")
    code = tmp_path / "code.yaml"
    code.write_text("model: m\nspace: {precision: [int8, int4]}\ntrust_remote_code: true\n")
    study = write_study(tmp_path / "study", ended=False)
    before = sorted(tmp_path.rglob("*"))

    async def scene() -> None:
        async with connected(root) as client:
            listed = (await client.list_tools()).tools
            assert {tool.name for tool in listed} == TOOLS
            assert all(tool.description and tool.output_schema for tool in listed)
            invalid = Validity.model_validate(await answered(client, "validate", config=str(wrong)))
            assert "Did you mean 'int4'" in invalid.mistakes[0].message
            said = await refused(client, "plan", config=str(wrong))
            assert "1 mistake" in said
            assert said.endswith("(exit code 2)")
            assert "writes below" in await refused(client, "run", config=str(config), out=str(outside))
            assert "writes below" in await refused(client, "run", config=str(config), out="../outside")
            assert "writes below" in await refused(client, "export", study=str(study.root), to=str(outside))
            for tool, more in (("plan", {}), ("run", {"out": "s"})):
                assert "runs no code of a checkpoint" in await refused(client, tool, config=str(code), **more)
            said = await refused(client, "run", config=str(config), out="s")
            assert "no-model" in said
            assert said.endswith("(exit code 2)")
            assert "no study folder" in await refused(client, "status", study=str(tmp_path))
            assert "was not started by this server" in await refused(client, "stop", study=str(study.root))
            assert (await answered(client, "status", study=str(study.root)))["state"] == "stopped"

    anyio.run(scene)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_root_that_is_no_folder_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", "--root", str(tmp_path / "none")]) == 2
    assert "there is no such folder" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("olivine.search.cli.commands.mcp.find_spec", lambda name: None)
    assert main(["mcp"]) == 2
    assert "pip install 'olivine[mcp]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("progress\nolivine: a.yaml: 2 mistakes\n  a: x\n  b: y\n", "a.yaml: 2 mistakes\n  a: x\n  b: y"),
        ("Traceback\nValueError: no\n", "ValueError: no"),
        ("", "it said nothing"),
    ],
)
def test_the_error_at_the_end_of_the_output_is_the_message(said: str, message: str) -> None:
    assert error_message(said) == message


def test_the_readme_shows_settings_that_an_agent_can_read() -> None:
    readme = (Path(__file__).parents[4] / "search/cli/mcp_server/README.md").read_text()
    settings = json.loads(readme.split("```json\n")[1].split("```")[0])
    assert settings["mcpServers"]["olivine"]["args"][0] == "mcp"
    assert {line.split("(")[0].removeprefix("| `") for line in readme.splitlines() if line.startswith("| `")} == TOOLS
