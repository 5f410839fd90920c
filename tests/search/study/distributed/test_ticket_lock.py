"""One worker at a time, in the order in which they ask; a dead one holds nobody up."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import optuna
import pytest
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState

from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.ticket_lock import TicketLock


def lock(storage: BaseStorage, study_id: int, name: str, gone: Sequence[str] = ()) -> TicketLock:
    registry = WorkerRegistry(storage, study_id, name)
    for other in gone:
        WorkerRegistry(storage, study_id, other).__exit__(None, None, None)
    return TicketLock(storage, study_id, registry)


@pytest.fixture
def side() -> tuple[BaseStorage, int]:
    storage = InMemoryStorage()
    return storage, storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "side")


def test_turns_never_overlap(side: tuple[BaseStorage, int]) -> None:
    inside, most, done = [], [0], []

    def work(name: str) -> None:
        for _ in range(5):
            with lock(*side, name).turn() as turn:
                inside.append(name)
                most[0] = max(most[0], len(inside))
                time.sleep(0.002)
                assert turn.holds()
                inside.remove(name)
        done.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert sorted(done) == list("abcd")


def test_the_ticket_of_a_dead_worker_is_closed_and_no_longer_holds(side: tuple[BaseStorage, int]) -> None:
    storage, study_id = side
    held = lock(*side, "dead").turn()
    turn = held.__enter__()
    assert turn.holds()
    with lock(*side, "next", gone=["dead"]).turn() as after:
        assert not turn.holds()
        assert after.holds()
    held.__exit__(None, None, None)  # it wakes up, and nothing breaks
    assert all(t.state == TrialState.FAIL for t in storage.get_all_trials(study_id))
