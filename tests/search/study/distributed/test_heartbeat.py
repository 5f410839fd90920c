"""A worker is missed by what its beats show, by the clock of the one who looks."""

from __future__ import annotations

import optuna
import pytest
from optuna.storages import InMemoryStorage

from olivine.search.study.distributed.heartbeat import WorkerRegistry


class KernelTimer:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def study_id(storage: InMemoryStorage) -> int:
    return storage.create_new_study([optuna.study.StudyDirection.MINIMIZE], "side")


def test_a_worker_that_beats_stays_and_one_that_does_not_is_gone_after_a_lease(
    storage: InMemoryStorage, study_id: int
) -> None:
    clock = KernelTimer()
    here = WorkerRegistry(storage, study_id, "here", lease_s=10, clock=clock)
    lively, dead = WorkerRegistry(storage, study_id, "lively"), WorkerRegistry(storage, study_id, "dead")
    lively.beat()
    dead.beat()
    assert here.gone(["lively", "dead"]) == set()
    clock.now = 9
    lively.beat()
    assert here.gone(["lively", "dead"]) == set()
    clock.now = 11
    assert here.gone(["lively", "dead"]) == {"dead"}
    assert set(here.alive()) == {"lively"}
    dead.beat()
    assert here.gone(["dead"]) == set(), "it was only slow"


def test_a_worker_that_never_showed_itself_gets_a_lease(storage: InMemoryStorage, study_id: int) -> None:
    clock = KernelTimer()
    here = WorkerRegistry(storage, study_id, "here", lease_s=10, clock=clock)
    assert here.gone(["unseen"]) == set()
    clock.now = 10.5
    assert here.gone(["unseen"]) == {"unseen"}


def test_nobody_takes_himself_for_gone(storage: InMemoryStorage, study_id: int) -> None:
    clock = KernelTimer()
    here = WorkerRegistry(storage, study_id, "here", lease_s=10, clock=clock)
    here.beat()
    assert here.gone(["here"]) == set()
    clock.now = 100
    assert here.gone(["here"]) == set()


def test_leaving_is_seen_at_once(storage: InMemoryStorage, study_id: int) -> None:
    here = WorkerRegistry(storage, study_id, "here")
    with WorkerRegistry(storage, study_id, "guest", about={"leads": True}, beat_s=0.01):
        assert here.alive() == {"guest": {"leads": True}}
    assert here.gone(["guest"]) == {"guest"}
    assert here.alive() == {}
