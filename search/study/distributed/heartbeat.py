"""The workers of a study: each shows in the storage that it is alive, and is taken for gone when it no longer does.

No clocks are compared: a worker is gone when the one that looks has seen the same beat for longer than a lease, by
its own clock. Optuna's heartbeats exist under ``Study.optimize`` alone.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from optuna.storages import BaseStorage

LOG = logging.getLogger(__name__)
BEAT_S = 5.0
#: A worker that has not shown itself for this long is gone, and its trial is given to another.
LEASE_S = 60.0
_KEY = "worker:"
_GONE = -1


def worker_name() -> str:
    """A name that no other worker has: host, process, and a few random letters for containers."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


@dataclass
class WorkerRegistry:
    """The workers of a study, as one of them sees them; a context manager that shows that this one is alive.

    Attributes:
        storage: the study's storage.
        study_id: the study below which workers show themselves.
        name: this worker's.
        about: facts about it for the others: its roles, its host.
        beat_s: seconds between two signs of life.
        lease_s: longest silence of others, in seconds.
        clock: seconds.
    """

    storage: BaseStorage
    study_id: int
    name: str = field(default_factory=worker_name)
    about: Mapping[str, Any] = field(default_factory=dict)
    beat_s: float = BEAT_S
    lease_s: float = LEASE_S
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    _beats: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def beat(self) -> None:
        """Show that this worker is alive."""
        self._beats += 1
        self._show(self._beats)

    def alive(self) -> dict[str, dict[str, Any]]:
        """The workers that are not known to be gone, and the facts about each."""
        entries = self.look()
        return {name: entry["about"] for name, entry in entries.items() if not self._gone(name, entry["beat"])}

    def gone(self, names: Iterable[str]) -> set[str]:
        """Those that have said goodbye or been silent for a lease; one that was never seen gets a lease."""
        others = set(names) - {self.name}
        entries = self.look() if others else {}
        return {name for name in others if self._gone(name, entries.get(name, {"beat": 0})["beat"])}

    def look(self) -> dict[str, dict[str, Any]]:
        """Every worker that has ever shown itself: {beat, about}, its last beat and the facts about it."""
        attrs = self.storage.get_study_user_attrs(self.study_id)
        return {key.removeprefix(_KEY): entry for key, entry in attrs.items() if key.startswith(_KEY)}

    def _gone(self, name: str, beat: int) -> bool:
        now = self.clock()
        if beat == _GONE:
            return True
        before, since = self._seen.get(name, (None, now))
        if beat != before:
            self._seen[name] = (beat, now)
            return False
        return now - since > self.lease_s

    def _show(self, beat: int) -> None:
        entry = {"beat": beat, "about": dict(self.about)}
        self.storage.set_study_user_attr(self.study_id, f"{_KEY}{self.name}", entry)

    def __enter__(self) -> Self:
        self.beat()
        self._thread = threading.Thread(target=self._beat_on, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def _beat_on(self) -> None:
        while not self._stop.wait(self.beat_s):
            try:
                self.beat()
            except Exception as error:  # a storage that is away for a while: the work itself meets it too, and says so
                LOG.warning("the storage did not take this worker's sign of life: %s", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._show(_GONE)
