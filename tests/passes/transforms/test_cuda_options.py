from __future__ import annotations

import copy
from typing import Any

import pytest

from olivine.passes.catalog import LANGUAGE
from olivine.passes.errors import PassRefused, UsageError
from olivine.passes.transforms.cuda_options import CudaOptions

CONFIG: dict[str, Any] = {
    "model": {
        "decoder": {"session_options": {"log_id": "genai", "provider_options": [{"cuda": {"enable_cuda_graph": "0"}}]}}
    }
}
BLOCKS_OF_32 = {"provider": "cuda", "precision": "int4", "block_size": 32}


def edited(one: CudaOptions) -> dict[str, Any]:
    before = copy.deepcopy(CONFIG)
    options: dict[str, Any] = one.edited(CONFIG)["model"]["decoder"]["session_options"]
    assert before == CONFIG
    return options


def test_graph_capture_is_an_option_of_the_provider() -> None:
    assert edited(CudaOptions(graph_capture=True))["provider_options"] == [{"cuda": {"enable_cuda_graph": "1"}}]


def test_weight_kernels_are_an_option_of_the_session_and_keep_biases_apart() -> None:
    options = edited(CudaOptions(weight_kernels="fpa_intb"))
    assert options["ep.cuda.fpa_intb_gemm"] == "1"
    assert options["optimization.disable_specified_optimizers"] == "MatMulNBitsFusion"
    assert options["provider_options"] == [{"cuda": {"enable_cuda_graph": "0"}}]


def test_graph_capture_of_a_model_without_cuda_is_refused() -> None:
    decoders: list[dict[str, Any]] = [{"session_options": {"provider_options": []}}, {"session_options": {}}, {}]
    for decoder in decoders:
        with pytest.raises(PassRefused, match="names no CUDA provider"):
            CudaOptions(graph_capture=True).edited({"model": {"decoder": decoder}})


def test_a_config_without_session_options_gets_them() -> None:
    config: dict[str, Any] = {"model": {"decoder": {}}}
    config = CudaOptions(weight_kernels="fpa_intb").edited(config)
    assert config["model"]["decoder"]["session_options"]["ep.cuda.fpa_intb_gemm"] == "1"


def test_unknown_kernels_are_a_mistake() -> None:
    with pytest.raises(UsageError, match="Did you mean 'fpa_intb'"):
        CudaOptions(weight_kernels="fpa-intb8")


def test_a_recipe_without_these_options_has_no_such_step() -> None:
    assert "cuda_options" not in [step.name for step in LANGUAGE.compose(BLOCKS_OF_32).steps]
    assert "cuda_options" in [step.name for step in LANGUAGE.compose({**BLOCKS_OF_32, "graph_capture": True}).steps]


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"precision": "int8"}, True),
        ({"block_size": 64}, False),
        ({"symmetric": False}, False),
        ({"algorithm": "k_quant"}, False),
        ({"algorithm": "gptq"}, False),
        ({"algorithm": "gptq", "symmetric": True}, True),
        ({"precision": "fp16"}, False),
        ({"provider": "webgpu"}, False),
    ],
)
def test_weight_kernels_exist_only_where_they_take_the_weights(change: dict[str, Any], fits: bool) -> None:
    assert ("weight_kernels" in LANGUAGE.canonical({**BLOCKS_OF_32, **change})) == fits


def test_cuda_has_no_accuracy_level_and_its_nodes_ask_for_none() -> None:
    assert "accuracy_level" not in LANGUAGE.canonical(BLOCKS_OF_32)
    assert LANGUAGE.canonical({"precision": "int4"})["accuracy_level"] == 4
    for choice in (BLOCKS_OF_32, {"provider": "cuda", "precision": "mixed", "algorithm": "gptq"}):
        assert [s.params["accuracy_level"] for s in LANGUAGE.compose(choice).steps if "accuracy_level" in s.params] == [
            0
        ]
