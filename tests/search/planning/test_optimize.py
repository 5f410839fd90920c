"""``olivine optimize``: what it makes of words, model, machine and budget; and once the whole of it."""

from __future__ import annotations

import json
import shutil
from itertools import product
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import yaml
from rich.console import Console
from tiny_study import write_text

from olivine.evaluators.providers.state import ProviderState
from olivine.evaluators.scenario.prompts import LEAST_ANSWERS
from olivine.evaluators.scenario.scenario import READY
from olivine.passes.base import Scalar
from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import SourceError, UsageError
from olivine.passes.providers import PROVIDERS
from olivine.passes.sources.source import resolve
from olivine.passes.transforms.prune_head import PruneHead
from olivine.search.cli.main import main
from olivine.search.config.language import LanguageStudyConfig
from olivine.search.config.load import load_config, parse_config
from olivine.search.config.space_mistakes import choice_mistakes
from olivine.search.planning.auto_config import Chosen, choose
from olivine.search.planning.estimate.fit import fitting_choice
from olivine.search.planning.machine_speed import MachineRates
from olivine.search.planning.optimize import Optimizer
from olivine.search.planning.optimize_request import DEVICES, TARGETS, OptimizeRequest, OptimizeWords
from olivine.search.planning.pick_provider import ProviderChoice, pick_provider
from olivine.search.planning.preflight import CHARACTERS_PER_TOKEN
from olivine.search.planning.presets import MEASUREMENT_BUDGETS, MeasurementBudget, SearchScope, good_choice, preset
from olivine.search.study_dir import StudyDir
from olivine.search.workloads.timed_answers import check_count

pytestmark = pytest.mark.usefixtures("olivine_cache")

RATES = MachineRates(flops=150e9, read_bytes_per_s=15e9, written_bytes_per_s=8e8)
CPU = ProviderChoice("cpu", "as asked")
PLENTY = 64_000_000_000


def parsed(model: str = "some/model", **words: Any) -> OptimizeRequest:
    return OptimizeWords(model, **words).parse()


def test_words_become_quantities() -> None:
    request = parsed(budget="8m", max_loss="5%", target="prefill")
    assert (request.budget_s, request.max_loss, request.metric) == (480.0, 0.05, "ttft_ms")


@pytest.mark.parametrize("word", ["0", "0s", "0m", "0 m"])
def test_a_budget_of_nothing_is_one(word: str) -> None:
    assert parsed(budget=word).budget_s == 0


def test_all_mistakes_are_named_at_once_each_with_the_nearest_word() -> None:
    wrong = {
        "device": "gpuu",
        "provider": "cud",
        "precision": "int3",
        "budget": "1x",
        "max_loss": "5",
        "target": "size!",
    }
    with pytest.raises(UsageError) as caught:
        parsed(**wrong, text="no-such.txt")
    said = str(caught.value).splitlines()
    for word in ("'gpu'", "'cuda'", "'int4'", "'size'"):
        assert sum(f"Did you mean {word}?" in line for line in said) == 1
    assert [line.split(":")[0] for line in said] == [
        "--device",
        "--provider",
        "--precision",
        "--target",
        "--budget",
        "--max-loss",
        "--text",
    ]


def test_a_limit_of_memory_is_a_constraint_in_a_scenario() -> None:
    request = parsed(fit="600MB")
    assert (request.fit_bytes, request.scenario) == (600_000_000, "chat")
    assert request.memory_constraint == ("deployed_rss_bytes <= 600000000",)
    assert parsed(fit="600MB", scenario="rag").scenario == "rag"
    assert request.command(Path("DIR")).endswith("--scenario chat --fit 600000000B")
    assert "in at most 600 MB as it is deployed" in request.goal
    with pytest.raises(UsageError, match=r"--fit: takes a size such as 8GB"):
        parsed(fit="much")


def test_a_budget_scores_windows_of_the_context_and_at_most_twice_as_many_tokens() -> None:
    for budget in MEASUREMENT_BUDGETS:
        longer, tokens = budget.at_context(4096), budget.windows * budget.window_tokens
        assert budget.window_tokens < longer.window_tokens <= 4096
        assert longer.windows >= 4
        assert tokens <= longer.windows * longer.window_tokens <= 2 * tokens
        assert budget.at_context(100) == budget


def test_a_build_without_a_search_takes_what_fits_and_loses_least() -> None:
    demo, scope, use = resolve("demo:smollm2-135m-instruct"), SearchScope(mixes=True), READY["rag"]

    def fitting(megabytes: int, precision: str = "") -> dict[str, Scalar]:
        return fitting_choice(demo, ("decode", precision), scope, {"prune_head": True}, use, megabytes * 1_000_000)

    assert fitting(900)["precision"] == "int8"
    assert (fitting(400)["precision"], fitting(400)["kv_cache"]) == ("int8", "int8")
    assert fitting(370)["precision"] in ("mixed", "int4")
    assert fitting(900)["context"] == use.context
    with pytest.raises(UsageError, match=r"--fit 100 MB: no build fits. The smallest, \w+ with kv_cache int8"):
        fitting(100)


def test_a_provider_of_another_device_is_a_mistake() -> None:
    with pytest.raises(UsageError, match="'cuda' does not run on device 'cpu'"):
        parsed(device="cpu", provider="cuda")


def test_a_study_goes_on_with_the_same_request_and_any_budget(tmp_path: Path) -> None:
    made = parsed(budget="8m")
    made.store(tmp_path)
    parsed(budget="20m").check_same(tmp_path)
    with pytest.raises(UsageError, match=r"max-loss, target differ") as caught:
        parsed(max_loss="1%", target="size").check_same(tmp_path)
    assert "olivine optimize some/model --to DIR --budget 480s --max-loss 5% --target decode" in str(caught.value)


def state(provider: str, found: str, detail: str = "") -> ProviderState:
    return ProviderState(provider, provider, found, detail)  # type: ignore[arg-type]


def test_the_first_gpu_provider_that_works_is_taken_and_none_is_an_error() -> None:
    request = parsed(device="gpu")
    works = pick_provider(request, lambda name: state(name, "works" if name == "dml" else "missing"))
    assert works.name == "dml"
    with pytest.raises(UsageError) as caught:
        pick_provider(request, lambda name: state(name, "missing", f"needs {name}'s GPU"))
    assert all(f"needs {name}'s GPU" in str(caught.value) for name in DEVICES["gpu"])


def test_without_a_device_a_gpu_is_taken_where_its_provider_works() -> None:
    request, gpus = parsed(), lambda: ("NVIDIA Test",)
    assert pick_provider(request, gpus_here=lambda: ()).name == "cpu"
    works = pick_provider(request, lambda name: state(name, "works"), gpus)
    assert works == ProviderChoice("cuda", "NVIDIA Test is here, and its provider works")
    fallen = pick_provider(request, lambda name: state(name, "broken", "no libcublas"), gpus)
    assert fallen == ProviderChoice("cpu", "NVIDIA Test is here, but its provider is broken: no libcublas")


INTEGERS = [provider for provider in PROVIDERS if PROVIDERS[provider].refusal("int8") is None]
SCOPES = [
    SearchScope(wide=True),
    SearchScope(),
    SearchScope(fuses=False),
    SearchScope(mixes=False),
    SearchScope(learns=False, mixes=False),
    SearchScope(packs_cache=True),
]


@pytest.mark.parametrize("provider", INTEGERS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_preset_is_a_valid_study_with_a_start_inside_its_space(provider: str, target: str) -> None:
    for scope, precision in product(SCOPES, ("", "int8", "int4", "mixed")):
        if precision == "mixed" and not scope.mixes:
            continue
        found = preset(provider, target, precision, scope)
        raw = {"model": "some/model", "space": dict(found.space), "enqueue": [dict(c) for c in found.enqueue]}
        config = parse_config(raw, f"{provider} {target} {precision} {scope}")
        assert config.enqueue or precision == "mixed"
        assert config.search_space().searched
        assert scope.learns or "gptq" not in str(raw)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_single_build_is_a_valid_choice(provider: str, target: str) -> None:
    for precision in ("fp32", "fp16", "bf16", "int8", "int4", "mixed"):
        if PROVIDERS[provider].refusal(precision) is None:
            assert (
                choice_mistakes(good_choice(provider, target, precision, SearchScope()), "choice", {}, LANGUAGE) == []
            )


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text") / "text.txt", documents=400)


def chosen(model: Path | str, text: Path, budget: str = "10m", free: int = PLENTY, **words: Any) -> Chosen:
    request = parsed(str(model), budget=budget, text=str(text), **words)
    return choose(request, resolve(str(model)), CPU, RATES, free)


def test_target_and_loss_become_objective_constraint_and_selection(tiny_llama: Path, text: Path) -> None:
    config = chosen(tiny_llama, text, target="size", max_loss="5%").config
    assert config.objectives == ("model_bytes", "perplexity_ratio")
    assert config.select.where == ("perplexity_ratio <= 1.05",)
    assert config.sampler.aim == "goal"
    assert config.constraints == ("perplexity_ratio <= 1.3",)
    assert (config.select.metric, config.confirm.selectable, config.stop.total) == ("model_bytes", True, 600.0)


def test_the_head_is_pruned_where_the_model_can_be_and_a_note_says_where_not(
    tiny_llama: Path, tiny_onnx: Path, text: Path, tmp_path: Path
) -> None:
    assert chosen(tiny_llama, text).config.space["prune_head"] is True
    graph = shutil.copytree(tiny_onnx, tmp_path / "pruned")
    model = ir.load(graph / "model.onnx")
    PruneHead().rewire(model)
    ir.save(model, graph / "model.onnx")
    found = chosen(graph, text)
    assert found.config.space["prune_head"] is False
    assert "last position only already" in dict(found.lines)["note"]


def test_a_scenario_decides_what_is_timed_and_what_the_export_makes_room_for(tiny_llama: Path, text: Path) -> None:
    config = chosen(tiny_llama, text, scenario="{context: 128, prompt_tokens: 60, new_tokens: 20}").config
    timing, use = config.evaluation.latency, config.use()
    assert use is not None
    assert (timing.prompt_tokens, timing.new_tokens) == (60, 20)
    assert config.space["context"] == use.context == 128


def test_guesses_are_searched_where_answers_to_real_prompts_are_timed(tiny_llama: Path, text: Path) -> None:
    prompts = "{context: 200, new_tokens: 20, prompts: demo:chat}"
    config = chosen(tiny_llama, text, scenario=prompts).config
    assert (config.space["prune_head"], config.space["ngram_size"]) == ([True, False], [0, 3])
    assert [choice.get("ngram_size", 0) for choice in config.enqueue][:3] == [0, 3, 0]
    for words in ({"scenario": prompts, "target": "size"}, {"scenario": "{context: 128, prompt_tokens: 60}"}, {}):
        assert "ngram_size" not in chosen(tiny_llama, text, **words).config.space


def test_guesses_are_not_searched_on_fewer_prompts_than_they_are_timed_on(
    tiny_llama: Path, text: Path, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts.txt"
    for count in (LEAST_ANSWERS - 1, LEAST_ANSWERS):
        prompts.write_text("\n\n".join(["the old boat lay there"] * count))
        use = f"{{context: 200, new_tokens: 20, prompts: {prompts}}}"
        config = chosen(tiny_llama, text, scenario=use).config
        assert ("ngram_size" in config.space) == (count == LEAST_ANSWERS)
        check_count(config)


def test_a_scenario_is_part_of_the_request(tmp_path: Path) -> None:
    made = parsed(scenario="{name: rag, context: 8192}")
    assert "--scenario '{name: rag, context: 8192}'" in made.command(tmp_path)
    made.store(tmp_path)
    with pytest.raises(UsageError, match=r"\(scenario differ\)"):
        parsed().check_same(tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'rag'"):
        parsed(scenario="ragg")


def test_a_scenario_longer_than_the_model_ends_with_2(tiny_llama: Path, tmp_path: Path) -> None:
    assert main(["optimize", str(tiny_llama), "--to", str(tmp_path / "o"), "--scenario", "rag", "--budget", "0"]) == 2
    assert not (tmp_path / "o").exists()


def test_what_is_said_names_the_choice_and_its_reason(tiny_llama: Path, text: Path) -> None:
    said = dict(chosen(tiny_llama, text, target="prefill").lines)
    assert set(said) == {"model", "machine", "goal", "search", "measures", "budget"}
    assert "provider cpu: as asked" in said["machine"]
    assert "int8 activations win" in said["search"]
    assert "best time to first token at a perplexity of at most 1.05 times" in said["goal"]


def test_a_small_budget_measures_less_and_one_that_is_too_small_says_what_would_do(
    tiny_llama: Path, text: Path
) -> None:
    long, short = (chosen(tiny_llama, text, budget).config for budget in ("4h", "2m"))
    assert long.evaluation.latency.max_seconds > short.evaluation.latency.max_seconds
    assert len(long.space["block_size"]) > len(short.space["block_size"])
    assert long.stop.trials > short.stop.trials
    with pytest.raises(UsageError, match=r"Give --budget \d+m, or --budget 0"):
        chosen(tiny_llama, text, "2s")


def test_what_does_not_fit_the_memory_is_not_searched(tiny_llama: Path, text: Path) -> None:
    assert "mixed" in chosen(tiny_llama, text).config.space["precision"]
    assert "mixed" not in chosen(tiny_llama, text, free=1).config.space["precision"]


@pytest.mark.parametrize("budget", MEASUREMENT_BUDGETS)
def test_a_larger_budget_goes_on_as_if_the_study_had_been_made_for_it(
    budget: MeasurementBudget, tiny_llama: Path, text: Path, tmp_path: Path
) -> None:
    source, out = resolve(str(tiny_llama)), Console(quiet=True)

    def study(time: str, folder: StudyDir) -> LanguageStudyConfig:
        request = parsed(str(tiny_llama), budget=time, text=str(text))
        folder.root.mkdir(exist_ok=True)
        request.store(folder.root)
        return Optimizer(request, tmp_path / "to", out, probe=lambda: RATES, budgets=(budget,)).study(
            source, CPU, folder
        )

    first, larger = (study(time, StudyDir(tmp_path / time)) for time in ("10m", "2h"))
    assert first.space == larger.space
    begun = StudyDir(tmp_path / "begun")
    begun.root.mkdir()
    begun.config_path.write_text(first.to_yaml())
    assert study("2h", begun) == larger
    assert larger.stop.trials > 5 * first.stop.trials
    assert study("10m", begun) == first
    assert study("2m", begun).stop == first.stop.model_copy(update={"total": 120.0})


def test_a_graph_brings_no_sensitivities(tiny_onnx: Path, text: Path) -> None:
    assert chosen(tiny_onnx, text).config.space["precision"] == ["int8", "int4"]


@pytest.mark.parametrize("budget", ["10m", "2h"])
def test_a_graph_keeps_its_fusions(tiny_onnx: Path, text: Path, budget: str) -> None:
    assert "fusion_level" not in chosen(tiny_onnx, text, budget).config.space
    assert "fusion_level" not in good_choice("cpu", "decode", "int4", SearchScope(fuses=False))


def test_windows_fit_text_and_context(tiny_llama: Path, tmp_path: Path) -> None:
    few = write_text(tmp_path / "few.txt", documents=40)
    evaluation = chosen(tiny_llama, few).config.evaluation
    assert evaluation.windows * evaluation.window_tokens <= len(few.read_text()) * 0.3 / CHARACTERS_PER_TOKEN * 1.5
    assert evaluation.window_tokens <= 256


def test_an_unknown_model_and_a_precision_without_kernels_end_with_2(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        resolve("no-such-model")
    assert main(["optimize", "no-such-model", "--to", str(tmp_path / "to"), "--device", "cpu"]) == 2
    command = ["optimize", "no-such-model", "--to", str(tmp_path / "to"), "--device", "cpu", "--precision", "fp16"]
    assert main(command) == 2


def test_one_line_searches_exports_verifies_and_goes_on(
    tiny_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to, saved = tmp_path / "best", tmp_path / "saved.yaml"
    words = {"max_loss": "50%", "precision": "int8", "budget": "25s", "device": "cpu", "text": str(text)}
    request, quick = parsed(str(tiny_llama), **words), (MeasurementBudget(3, 24, 8, 3, 0.2, 0.2, 2),)
    console = Console(width=1000)
    optimizer = Optimizer(request, to, console, save_config=saved, probe=lambda: RATES, budgets=quick)
    assert optimizer.run(console) == 0
    said = capsys.readouterr().out
    assert f"{to} is ready" in said
    assert "against the float base: decode speedup" in said
    study = StudyDir.open(tmp_path / "best-study")
    manifest = json.loads((to / "olivine.json").read_text())
    assert manifest["study"]["trial"] == study.outcome().trial
    assert load_config(saved).search_space() == load_config(study.config_path).search_space()
    assert main(["verify", str(to)]) == 0
    command = ["optimize", str(tiny_llama), "--to", str(to)]
    command += [word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", value)]
    assert main(command) == 2  # the folder is there
    assert main([*command, "--force", "--target", "size"]) == 2  # another search
    assert "(target differ)" in capsys.readouterr().err


def test_a_budget_of_nothing_builds_one_recipe_and_saves_the_study_that_would_measure_it(
    tiny_llama: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to, saved = tmp_path / "one", tmp_path / "one.yaml"
    command = [
        "optimize",
        str(tiny_llama),
        "--to",
        str(to),
        "--budget",
        "0",
        "--precision",
        "int4",
        "--text",
        str(text),
    ]
    assert main([*command, "--device", "cpu", "--save-config", str(saved)]) == 0
    assert "a budget of 0 measures nothing" in capsys.readouterr().out
    manifest = json.loads((to / "olivine.json").read_text())
    assert manifest["calibration"]["text"] == text.name
    assert yaml.safe_load(saved.read_text())["space"]["algorithm"] == "gptq"
    assert load_config(saved).stop.trials == 1
    assert not (tmp_path / "one-study").exists()
