"""What workers of one study take from each other, and what they never take twice."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from olivine.passes.catalog import LANGUAGE
from olivine.search.config.space import parse_space
from olivine.search.samplers.proposer import Proposal
from olivine.search.study.distributed.heartbeat import WorkerRegistry
from olivine.search.study.distributed.open_shared import create_shared, join_shared
from olivine.search.study.distributed.shared_study import SharedStudy, choice_of, counted, keys, lost_choice, worker_of
from olivine.search.study.optuna_adapter import distributions_of

OBJECTIVES = ("tpot_ms", "perplexity_ratio")
SPACE = parse_space({"precision": ["int8", "int4"], "block_size": [16, 32], "threads": {"low": 1, "high": 4}}, LANGUAGE)


def worker(storage: InMemoryStorage, name: str) -> SharedStudy:
    made = create_shared(storage, "tiny", OBJECTIVES, {})
    return SharedStudy(made.study, made.side, made.parts, WorkerRegistry(storage, made.side, name))


def claim(shared: SharedStudy, key: str, precision: str = "int8") -> FrozenTrial:
    params = {"precision": precision, "block_size": 16, "threads": 2}
    with shared.ticket_lock.turn() as turn:
        trial = shared.claim(turn, Proposal(params, params, {}), key, distributions_of(SPACE, params))
    assert trial is not None
    return trial


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


def leave(shared: SharedStudy) -> None:
    shared.registry.__exit__(None, None, None)


def test_a_claim_is_a_trial_with_its_parameters_and_its_worker(storage: InMemoryStorage) -> None:
    here = worker(storage, "here")
    here.study.ask()  # the base
    trial = claim(here, "k1")
    assert trial.number == 1
    assert trial.state == TrialState.RUNNING
    assert trial.params == choice_of(trial) == {"precision": "int8", "block_size": 16, "threads": 2}
    assert worker_of(trial) == "here"
    assert keys(here.trials()) == {"k1"}
    assert [t.number for t in counted(here.trials())] == [1]


def test_distributions_are_those_of_a_suggestion(storage: InMemoryStorage) -> None:
    space = parse_space(
        {"precision": "mixed", "int8_share": {"low": 0.0, "high": 1.0}, "block_size": [16, 32]}, LANGUAGE
    )
    found = distributions_of(space, {"int8_share": 0.5, "block_size": 32})
    assert found == {"int8_share": FloatDistribution(0.0, 1.0), "block_size": CategoricalDistribution((16, 32))}
    assert distributions_of(SPACE, {"precision": "int4", "block_size": 16, "threads": 3})["threads"] == IntDistribution(
        1, 4
    )
    assert distributions_of(SPACE, {}) == {}


def test_the_trial_of_a_dead_worker_is_lost_once_and_its_choice_is_free_again(storage: InMemoryStorage) -> None:
    here, dead = worker(storage, "here"), worker(storage, "dead")
    here.study.ask()
    lost = claim(dead, "k1")
    assert here.lose_the_dead(lambda trial: False) == []
    leave(dead)
    assert [t.number for t in here.lose_the_dead(lambda trial: False)] == [lost.number]
    assert here.lose_the_dead(lambda trial: False) == []
    assert not dead.is_mine(lost._trial_id)
    assert lost_choice(here.trials()) == choice_of(lost)
    assert keys(here.trials()) == set()
    claim(here, "k1")
    assert lost_choice(here.trials()) is None


def test_a_trial_whose_record_was_written_is_told_and_not_lost(storage: InMemoryStorage) -> None:
    here, dead = worker(storage, "here"), worker(storage, "dead")
    here.study.ask()
    trial = claim(dead, "k1")
    leave(dead)

    def told(found: FrozenTrial) -> bool:
        storage.set_trial_state_values(found._trial_id, TrialState.COMPLETE, [1.0, 2.0])
        return True

    assert here.lose_the_dead(told) == []
    assert storage.get_trial(trial._trial_id).state == TrialState.COMPLETE


def test_a_claim_after_the_turn_was_lost_does_not_count(storage: InMemoryStorage) -> None:
    here, slow = worker(storage, "here"), worker(storage, "slow")
    here.study.ask()
    held = slow.ticket_lock.turn()
    turn = held.__enter__()
    leave(slow)
    with here.ticket_lock.turn():
        assert slow.claim(turn, Proposal({}, {}, {}), "k1", {}) is None
    assert counted(here.trials()) == []


def test_exactly_one_worker_gets_a_part_that_was_handed_over(storage: InMemoryStorage) -> None:
    builder, first, second = (worker(storage, name) for name in ("builder", "first", "second"))
    builder.study.ask()
    trial = claim(builder, "k1")
    builder.hand_over(trial._trial_id, "quality")
    (part,) = first.waiting()
    assert (part.trial_id, part.role) == (trial._trial_id, "quality")
    assert first.take(part)
    assert not second.take(part)
    leave(builder)  # its part is done: the trial is now the first's
    assert second.lose_the_dead(lambda trial: False) == []
    leave(first)
    assert [t.number for t in second.lose_the_dead(lambda trial: False)] == [trial.number]
    assert second.waiting() == []


def test_joining_finds_what_was_made_and_nothing_else(storage: InMemoryStorage) -> None:
    assert join_shared(storage, "tiny", {}) is None
    made = worker(storage, "here")
    found = join_shared(storage, "tiny", {})
    assert found is not None
    assert (found.side, found.parts) == (made.side, made.parts)
    assert found.facts() == {}
    made.publish({"budget": 3})
    assert found.facts() == {"budget": 3}
