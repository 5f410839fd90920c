"""Studies that ``olivine mcp`` started: each a process of its own, which goes on when the server ends."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from olivine.passes.store.atomic_files import make_folder
from olivine.search.answers.study import Status, status_answer
from olivine.search.cli.mcp_server.command_line import OLIVINE, CommandFailed
from olivine.search.study_dir import StudyDir

#: File of a study folder with all that its process says.
LOG = "run.log"
#: Seconds between two looks at a study that starts.
_LOOK_S = 0.1
#: Exit codes of a study that has a result, or was interrupted and can be resumed.
_ENDS = (0, 3, 130)


@dataclass
class Background:
    """The studies that this server started.

    Attributes:
        processes: resolved folder -> its process.
    """

    processes: dict[Path, subprocess.Popen[bytes]] = field(default_factory=dict)

    async def start(self, folder: Path, words: Sequence[str]) -> Status:
        """Start ``olivine run`` on a folder, and wait until it has begun, or refused.

        Args:
            folder: of the study, which may exist.
            words: arguments of the command, without ``--out``.

        Returns:
            The state of the study once its process holds it.

        Raises:
            UsageError: when another process runs the study.
            CommandFailed: when it ended before that; a folder that was made for it is gone then.
        """
        study, fresh = StudyDir(folder), not folder.exists()
        study.check_free()
        make_folder(folder)
        before = (folder / LOG).stat().st_size if (folder / LOG).is_file() else 0
        with (folder / LOG).open("ab") as log:
            command = [*OLIVINE, "run", *words, "--out", str(folder)]
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.processes[folder.resolve()] = process
        while process.poll() is None and not (study.is_locked() and study.config_path.is_file()):
            await anyio.sleep(_LOOK_S)
        if process.returncode in (None, 0):
            return status_answer(study)
        del self.processes[folder.resolve()]
        said = (folder / LOG).read_bytes()[before:].decode(errors="replace")
        if fresh and [path.name for path in folder.iterdir()] == [LOG]:
            (folder / LOG).unlink()
            folder.rmdir()
        raise CommandFailed(said, process.returncode)

    def status(self, folder: Path) -> Status:
        """The state of a study, of this server or not.

        Raises:
            UsageError: when the folder is no study.
            CommandFailed: when its process failed, with what it said last.
        """
        process = self.processes.get(folder.resolve())
        if process is not None and process.poll() is not None and process.returncode not in _ENDS:
            raise CommandFailed((folder / LOG).read_text(encoding="utf-8", errors="replace"), process.returncode)
        return status_answer(StudyDir.open(folder))

    def stop(self, folder: Path) -> None:
        """Interrupt a study as Ctrl-C does: its trial ends, and every finished one is kept.

        Raises:
            KeyError: when this server did not start it.
        """
        process = self.processes[folder.resolve()]
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
