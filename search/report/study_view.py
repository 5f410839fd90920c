"""StudyView: a study as report and dashboard show it, read once from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from olivine.evaluators.metric import METRICS, directed
from olivine.search.front_csv import front_entry, read_front
from olivine.search.pareto import front
from olivine.search.records import StudyOutcome, TrialRecord
from olivine.search.study_dir import StudyDir


@dataclass(frozen=True)
class StudyView:
    """A study as it can be shown, ended or not.

    Attributes:
        name: of the study.
        model: what the YAML calls the model.
        objectives: metric names.
        constraints: as the YAML writes them.
        records: every ended trial, by number.
        members: the front, best in the first objective first; with confirmed metrics where there are any.
        confirmed: whether the front was measured again after the search.
        outcome: selection and confirmed measurements, empty while the study runs.
        environment: the parsed environment.json, empty where there is none.
    """

    name: str
    model: str
    objectives: tuple[str, ...]
    constraints: tuple[str, ...]
    records: tuple[TrialRecord, ...]
    members: tuple[TrialRecord, ...]
    confirmed: bool
    outcome: StudyOutcome
    environment: Mapping[str, Any]

    def shown(self, record: TrialRecord) -> TrialRecord:
        """The trial with its confirmed metrics, where it was confirmed: also what then fell off the front."""
        member = next((member for member in self.members if member.number == record.number), None)
        if member is not None:
            return member
        fresh = self.outcome.confirmed.get(record.number, {})
        return replace(record, metrics={**record.metrics, **fresh})

    @property
    def base(self) -> TrialRecord | None:
        """Trial 0, the float base; None before it ended."""
        return next((record for record in self.records if record.number == 0), None)

    @property
    def selected(self) -> TrialRecord | None:
        """The selected trial with its confirmed metrics; None where nothing is selected."""
        return next((self.shown(record) for record in self.records if record.number == self.outcome.trial), None)


def read_view(study: StudyDir) -> StudyView:
    """Read a study folder.

    The resolved config is read as plain YAML, so that the study of another version can still be looked at.
    """
    import yaml

    config = yaml.safe_load(study.config_path.read_text(encoding="utf-8"))
    objectives = tuple(config["objectives"])
    records = tuple(study.trials())
    rows = read_front(study)
    confirmed = study.front_path.is_file()
    outcome = study.outcome()
    return StudyView(
        name=config["name"],
        model=config["model"],
        objectives=objectives,
        constraints=tuple(config.get("constraints", ())),
        records=records,
        members=_members(records, rows, outcome, objectives) if confirmed else _candidates(records, objectives),
        confirmed=confirmed,
        outcome=outcome,
        environment=study.environment(),
    )


def _candidates(records: tuple[TrialRecord, ...], objectives: tuple[str, ...]) -> tuple[TrialRecord, ...]:
    """The front of the search; the base is no candidate."""
    return tuple(front([record for record in records if record.number > 0], objectives))


def _members(
    records: tuple[TrialRecord, ...],
    rows: list[dict[str, str]],
    outcome: StudyOutcome,
    objectives: tuple[str, ...],
) -> tuple[TrialRecord, ...]:
    """The confirmed front with its confirmed metrics."""
    by_number = {record.number: record for record in records}
    members = []
    for row in rows:
        if (record := by_number.get(int(row["trial"]))) is None or record.number == 0:
            continue
        written = {name: entry for name in METRICS if (entry := front_entry(row, name)) is not None}
        members.append(
            replace(record, metrics={**record.metrics, **written, **outcome.confirmed.get(record.number, {})})
        )
    return tuple(sorted(members, key=lambda record: directed(objectives[0], record.value(objectives[0]))))
