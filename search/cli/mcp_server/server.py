"""The server: tools by which an agent checks, plans, runs and exports studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations

from olivine.passes.errors import OlivineError, UsageError
from olivine.search.answers.folders import MadeFolder
from olivine.search.answers.planned import StudyPlan, Validity
from olivine.search.answers.study import Front, Status, front_answer
from olivine.search.cli.mcp_server.background import Background
from olivine.search.cli.mcp_server.command_line import CommandFailed, answer_of
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config
from olivine.search.study_dir import StudyDir

INSTRUCTIONS = (
    "olivine finds the ONNX build of a language model that is worth shipping. A study is a YAML file: validate it, "
    "plan it (memory, disk, time), run it in the background, ask for its status now and then, look at its front, and "
    "export a trial as a folder for ONNX Runtime GenAI. Quantities have their unit in their name. Only one study at a "
    "time should run on a machine, since each measures times."
)
_READS = ToolAnnotations(read_only_hint=True)
_WRITES = ToolAnnotations(read_only_hint=False, destructive_hint=False)


@dataclass(frozen=True)
class Rules:
    """Limits of what tools may do.

    Attributes:
        root: folder that relative paths are below, and all folders that they make.
        trust_remote_code: whether code that a checkpoint brings may run, where a YAML asks for it.
    """

    root: Path
    trust_remote_code: bool = False

    def path(self, name: str) -> Path:
        """The file or folder of a name; it is absolute, so that no name is taken for an option."""
        return self.root / Path(name).expanduser()

    def place(self, folder: str, word: str) -> Path:
        """A folder to make.

        Raises:
            UsageError: when it is outside of the root.
        """
        path = self.path(folder)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise UsageError(f"{word} {folder}: this server writes below {self.root} only (olivine mcp --root DIR)")
        return path

    def check_code(self, config: Path) -> list[str]:
        """Refuse a YAML that lets code of a checkpoint run, where that is not allowed.

        Returns:
            Options for the command that reads the YAML, which may have changed by then.

        Raises:
            UsageError: for such a YAML, or one with mistakes.
        """
        study = load_config(config)
        if self.trust_remote_code or not isinstance(study, LanguageStudyConfig):
            return []
        if study.trust_remote_code:
            raise UsageError(
                f"{config}: trust_remote_code: this server runs no code of a checkpoint (olivine mcp "
                "--trust-remote-code allows it)"
            )
        return ["--set", "trust_remote_code=false"]


@contextmanager
def _told() -> Iterator[None]:
    """Turn errors for people into those of tools, with the exit code that the command line would have had."""
    try:
        yield
    except OlivineError as error:
        raise ToolError(f"{error} (exit code {error.exit_code})") from error
    except CommandFailed as error:
        raise ToolError(str(error)) from error


@dataclass(frozen=True)
class Tools:
    """The tools; their docstrings are what an agent reads.

    Attributes:
        rules: limits of what they may do.
        background: the studies that they started.
    """

    rules: Rules
    background: Background = field(default_factory=Background)

    async def validate(self, config: str) -> Validity:
        """Check a study's YAML file: every mistake with its place, and the nearest valid word. Changes nothing."""
        with _told():
            return await answer_of(Validity, "validate", str(self.rules.path(config)))

    async def plan(self, config: str) -> StudyPlan:
        """Tell what a study would take: search axes, number of candidates, memory, disk and time. Builds nothing.

        `fits` is false, and `lacks` says why, where this machine has too little.
        """
        with _told():
            path = self.rules.path(config)
            return await answer_of(StudyPlan, "plan", str(path), *self.rules.check_code(path))

    async def run(self, config: str, out: str, trials: int | None = None, timeout: str | None = None) -> Status:
        """Start a study in the background, or resume the one in its folder; returns once it has begun.

        Args:
            config: the study's YAML file.
            out: the study folder to make; all that is found is kept there, and run.log has its progress.
            trials: candidates to measure, in the place of the YAML's.
            timeout: wall-clock time of the search, such as 30m, in the place of the YAML's.
        """
        with _told():
            path, folder = self.rules.path(config), self.rules.place(out, "out")
            options = {"--trials": trials, "--timeout": timeout}
            words = [f"{name}={value}" for name, value in options.items() if value is not None]
            return await self.background.start(folder, [str(path), *self.rules.check_code(path), *words])

    async def status(self, study: str) -> Status:
        """Tell whether a study is running, stopped or ended, how many trials have ended, and what is selected."""
        with _told():
            return self.background.status(self.rules.path(study))

    async def front(self, study: str) -> Front:
        """Give the Pareto front of a study with parameters and measurements, confirmed or of the search so far."""
        with _told():
            return front_answer(StudyDir.open(self.rules.path(study)))

    async def export(self, study: str, to: str, trial: int | None = None) -> MadeFolder:
        """Export a trial of a study, the selected one by default, as a new folder for ONNX Runtime GenAI."""
        with _told():
            folder, place = StudyDir.open(self.rules.path(study)), self.rules.place(to, "to")
            self.rules.check_code(folder.config_path)
            chosen = [] if trial is None else [f"--trial={trial}"]
            return await answer_of(MadeFolder, "export", str(folder.root), "--to", str(place), *chosen)

    async def stop(self, study: str) -> Status:
        """Interrupt a study that this server started; every finished trial is kept, and `run` resumes it."""
        with _told():
            folder = self.rules.path(study)
            if folder.resolve() not in self.background.processes:
                raise UsageError(f"{study} was not started by this server; interrupt it where it was started")
            self.background.stop(folder)
            return self.background.status(folder)


def make_server(rules: Rules) -> MCPServer:
    """A server with all tools."""
    tools = Tools(rules)
    reading: list[Callable[..., Any]] = [tools.validate, tools.plan, tools.status, tools.front]
    writing: list[Callable[..., Any]] = [tools.run, tools.export, tools.stop]
    server = MCPServer("olivine", instructions=INSTRUCTIONS, version=version("olivine"), log_level="WARNING")
    for tool in (*reading, *writing):
        server.add_tool(tool, annotations=_READS if tool in reading else _WRITES)
    return server
