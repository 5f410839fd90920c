from __future__ import annotations

import pytest

from olivine.evaluators.latency.graph import PairedGraphLatency
from olivine.evaluators.memory import Memory
from olivine.evaluators.metric import COLUMNS, HEADLINES, METRICS, SPEEDUPS, directed, metrics_of
from olivine.evaluators.quality.output_fidelity import Fidelity
from olivine.evaluators.quality.task_score import TaskScore
from olivine.evaluators.quality.text_quality import TextQuality
from olivine.evaluators.scenario.answers import AnswerLatency
from olivine.evaluators.scenario.deployed import Deployed


def test_every_metric_is_measured_and_every_measured_metric_is_known() -> None:
    measured = {
        name
        for evaluator in (Memory, TextQuality, AnswerLatency, Fidelity, PairedGraphLatency, TaskScore, Deployed)
        for name in evaluator.metrics
    }
    assert measured == set(METRICS)


def test_every_ratio_names_a_metric_that_is_measured_of_the_same_kinds_of_model() -> None:
    ratios = [metric for metric in METRICS.values() if metric.ratio_of]
    assert {metric.ratio_of for metric in ratios} == {*SPEEDUPS, "perplexity"}
    assert all(METRICS[metric.ratio_of].kinds == metric.kinds and metric.relative for metric in ratios)


def test_a_candidate_is_summed_up_by_speedups_quality_and_size() -> None:
    language, graph = metrics_of("language"), metrics_of("graph")
    assert [m for m in HEADLINES if m in language] == [
        "tpot_speedup",
        "ttft_speedup",
        "perplexity_ratio",
        "model_bytes",
    ]
    assert [m for m in HEADLINES if m in graph] == [
        *("latency_speedup", "cosine_distance", "task_score", "task_drop", "model_bytes")
    ]
    assert set(COLUMNS) - set(HEADLINES) == {"kl_divergence", "top1_agreement", "deployed_rss_bytes"}


@pytest.mark.parametrize("name", METRICS)
def test_a_better_value_is_the_smaller_one_once_it_is_directed(name: str) -> None:
    better, worse = (1.0, 2.0) if METRICS[name].direction == "minimize" else (2.0, 1.0)
    assert directed(name, better) < directed(name, worse)
