"""The model card: everything a person asks, in Markdown that strangers' words can't break."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import yaml
from study_folder import entry

from olivine.evaluators.scenario.scenario import READY
from olivine.passes.catalog import LANGUAGE
from olivine.search.environment import ABSENT
from olivine.search.export.model_card import card, runtime_pins

VERSIONS = {"olivine": "0.1.0", "onnxruntime": "1.31.1", "onnxruntime-genai": "0.18.0", "numpy": "2.4.6"}
PINS = ("onnxruntime==1.31.1", "onnxruntime-genai==0.18.0", "numpy==2.4.6")


def about(**changes: Any) -> dict[str, Any]:
    recipe = LANGUAGE.compose({"precision": "int4", "block_size": 32, "threads": 2})
    return {
        "model": {
            "name": "some/model",
            "kind": "hub",
            "revision": "c0ffee",
            "architecture": "LlamaForCausalLM",
            "source": "some/model",
            "license": "apache-2.0",
        },
        "recipe": recipe.to_json(),
        "measurements": {
            "tpot_speedup": entry("tpot_speedup", 3.2, 0.03).to_dict(),
            "perplexity_ratio": entry("perplexity_ratio", 1.02, 0.004).to_dict(),
            "tpot_ms": entry("tpot_ms", 5.4, 0.03, prompt_tokens=128, new_tokens=32).to_dict(),
            "perplexity": entry(
                "perplexity", 25.0, 0.1, text="demo:news", split="confirm", tokens=4088, window_tokens=512
            ).to_dict(),
            "model_bytes": entry("model_bytes", 165e6, 0.0).to_dict(),
        },
        "study": {"name": "demo", "trial": 8},
        "selection": {"reason": "Trial 8 has the least tpot_ms.", "warnings": ["Its interval crosses 1.05."]},
        "versions": VERSIONS,
        "hardware": {"cpu": "AMD EPYC", "cores": 2, "memory_bytes": 16e9, "system": "Linux-6"},
        "rebuild": "olivine build some/model --to DIR --set precision=int4",
        **changes,
    }


def test_it_says_what_it_is_how_good_on_what_and_how_to_run_it() -> None:
    text = card(about(), "front.svg")
    front_matter = yaml.safe_load(text.split("---")[1])
    assert front_matter == {
        "library_name": "onnxruntime-genai",
        "license": "apache-2.0",
        "base_model": "some/model",
    }
    for said in (
        "Made of some/model (LlamaForCausalLM, commit c0ffee) by olivine 0.1.0.",
        "License of the base model: apache-2.0",
        "trial 8 of the study demo",
        "Trial 8 has the least tpot_ms.",
        "](front.svg)",
        "| decode speedup | 3.20x | 3.11x to 3.30x |",
        "| perplexity ratio | 1.020 | 1.016 to 1.024 |",
        "| model size | 165 MB |  |",
        "AMD EPYC, 2 cores, 16 GB of memory",
        "128 prompt and 32 new tokens",
        "4088 tokens of demo:news, part 'confirm', in windows of 512",
        "block_size 32",
        "    olivine build some/model --to DIR --set precision=int4",
        f"    pip install {' '.join(PINS)}",
        "asks for 2 threads",
        "* Its interval crosses 1.05.",
    ):
        assert said in text
    assert text.index("## Measured") < text.index("## Recipe") < text.index("## Run") < text.index("## Limits")


def test_what_is_not_known_is_not_claimed() -> None:
    model = {**about()["model"], "license": "", "kind": "checkpoint", "revision": None}
    text = card(about(model=model, measurements={}, study=None, selection={}), "")
    assert "not stated by the files that this was made of" in text
    assert "Nothing: it was built without a search." in text
    assert "front.svg" not in text
    assert "base_model" not in text
    assert "license:" not in text.split("---")[1]


def test_words_of_strangers_stay_words() -> None:
    model = {**about()["model"], "name": "a|b\n# <img src=x> [x](http://y)", "kind": "checkpoint"}
    text = card(about(model=model), "")
    assert "# a\\|b # &lt;img src=x&gt; \\[x\\](http://y) for ONNX Runtime GenAI" in text.splitlines()
    assert "<img" not in text


def test_text_that_was_learned_from_is_named() -> None:
    assert "learned from text.txt: text" in card(about(calibration={"text": "text.txt"}), "")
    mixed = {"text": "text.txt", "texts": ["code.py", "a.csv"], "own": 0.5}
    sentence = "learned from text.txt, code.py, a.csv and from text that the base model wrote: text of that kind"
    assert sentence in card(about(calibration=mixed), "")


def test_what_takes_all_logits_is_a_limit_of_a_pruned_head_alone() -> None:
    pruned = LANGUAGE.compose({"precision": "int4", "prune_head": True})
    assert "speculative decoding" in card(about(recipe=pruned.to_json()), "")
    assert "speculative decoding" not in card(about(), "")


def test_pieces_of_long_prompts_are_a_limit_where_there_are_some() -> None:
    pieces = LANGUAGE.compose({"precision": "int4", "chunk_size": 256})
    assert "Prompts of more than 256 tokens are run in pieces" in card(about(recipe=pieces.to_json()), "")
    assert "in pieces" not in card(about(), "")


def test_the_context_and_its_memory_are_told_and_how_to_change_them() -> None:
    recipe = LANGUAGE.compose({"precision": "int4", "context": 4096})
    cache = entry("context_bytes", 188.7e6, 0.0, scenario=asdict(READY["rag"])).to_dict()
    text = " ".join(card(about(recipe=recipe.to_json(), measurements={"context_bytes": cache}), "").split())
    assert "Scenario rag: a prompt of 2000 and an answer of 200 tokens, in a context of 4096" in text
    assert "makes room for 4096 tokens of prompt and answer" in text
    assert "takes all its memory (189 MB) at the first prompt" in text
    assert (
        "`search.max_length` is where another context is named, up to what the model takes, at 46.1 kB a token" in text
    )
    assert "search.max_length" not in card(about(), "")


def test_the_cards_own_example_fits_a_short_context() -> None:
    recipe = LANGUAGE.compose({"precision": "int4", "context": 64})
    assert "set_search_options(max_length=64)" in card(about(recipe=recipe.to_json()), "")
    assert "set_search_options(max_length=200)" in card(about(), "")


def test_a_cache_in_integers_is_a_limit_and_learns_apart_from_the_weights() -> None:
    learned = {"text": "text.txt"}
    cache = card(about(recipe=LANGUAGE.compose({"kv_cache": "int8"}).to_json(), calibration=learned), "")
    assert "key-value cache holds int8" in cache
    assert "Its cache learned from text.txt" in cache
    gptq = LANGUAGE.compose({"precision": "int4", "algorithm": "gptq", "kv_cache": "int4"})
    both = card(about(recipe=gptq.to_json(), calibration=learned), "")
    assert "key-value cache holds int4" in both
    assert "Its weights learned from text.txt" in both
    assert "key-value cache" not in card(about(), "")


def test_guesses_are_a_limit_where_there_are_some() -> None:
    guessing = LANGUAGE.compose({"precision": "int4", "ngram_size": 3})
    assert "The numbers above are without it." in card(about(recipe=guessing.to_json()), "")
    assert "guesses tokens" not in card(about(), "")


@pytest.mark.parametrize("provider", ["openvino", "webgpu"])
def test_a_provider_that_genai_cannot_run_has_no_pins_and_the_card_says_so(provider: str) -> None:
    assert runtime_pins(provider, VERSIONS) == ()
    recipe = LANGUAGE.compose({"provider": provider, "precision": "fp32"})
    assert f"no build for the provider {provider}" in card(about(recipe=recipe.to_json()), "")


def test_pins_are_of_what_is_installed_or_of_the_providers_own_environment() -> None:
    assert runtime_pins("cpu", VERSIONS) == PINS
    assert runtime_pins("cpu", {**VERSIONS, "onnxruntime": ABSENT}) == PINS[1:]
    assert "onnxruntime-genai-cuda==0.18.0" in runtime_pins("cuda", VERSIONS)


def test_the_loss_on_each_kind_of_text_stands_beside_the_studys_own() -> None:
    other = entry("perplexity_ratio", 1.06, 0.01, text="demo:encyclopedia", tokens=2048).to_dict()
    text = card(about(measurements={**about()["measurements"], "perplexity_ratio.encyclopedia": other}), "")
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| perplexity ratio")]
    assert rows == ["perplexity ratio", "perplexity ratio on encyclopedia"]
    assert "On encyclopedia: 2048 tokens of demo:encyclopedia: nothing learned from it." in text
