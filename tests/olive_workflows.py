"""Workflows of Olive in the shapes that its documentation and recipes have had over the years, written for tests."""

from __future__ import annotations

from typing import Any

Workflow = dict[str, Any]
CPU = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
GPU = {"device": "gpu", "execution_providers": ["CUDAExecutionProvider"]}
PHI: Workflow = {"type": "HfModel", "model_path": "microsoft/Phi-3-mini-4k-instruct"}
LLAMA_OLD: Workflow = {
    "type": "PyTorchModel",
    "config": {"hf_config": {"model_name": "meta-llama/Llama-2-7b-hf", "model_class": "LlamaForCausalLM"}},
}
WIKITEXT: Workflow = {
    "name": "wikitext2",
    "type": "HuggingfaceContainer",
    "load_dataset_config": {"data_name": "wikitext", "subset": "wikitext-2-raw-v1", "split": "train"},
    "pre_process_data_config": {"add_special_tokens": False, "max_samples": 128},
}


def system(*accelerators: Workflow, **more: Any) -> Workflow:
    return {"local_system": {"type": "LocalSystem", "accelerators": list(accelerators), **more}}


def latency(name: str = "latency", word: str = "avg", **goal: Any) -> Workflow:
    sub = {"name": word, "priority": 1, **({"goal": goal} if goal else {})}
    return {"name": name, "type": "latency", "sub_types": [sub]}


def builder(**more: Any) -> Workflow:
    return {"type": "ModelBuilder", "precision": "int4", **more}


#: The tutorial's: nested config, a system with accelerators, latency with a goal, joint TPE, cache and output folders.
TUTORIAL: Workflow = {
    "input_model": {
        "type": "PyTorchModel",
        "config": {"hf_config": {"model_name": "microsoft/phi-2", "task": "text-generation"}},
    },
    "systems": {"local_system": {"type": "LocalSystem", "config": {"accelerators": [CPU]}}},
    "evaluators": {
        "common_evaluator": {"metrics": [latency(type="percent-min-improvement", value=20)]},
    },
    "passes": {
        "builder": {"type": "ModelBuilder", "config": {"precision": "int4", "int4_block_size": 32}},
        "optimize": {"type": "OrtTransformersOptimization", "config": {"model_type": "gpt2", "opt_level": 0}},
    },
    "engine": {
        "search_strategy": {
            "execution_order": "joint",
            "search_algorithm": "tpe",
            "search_algorithm_config": {"num_samples": 5, "seed": 3},
        },
        "evaluator": "common_evaluator",
        "host": "local_system",
        "target": "local_system",
        "cache_dir": "cache",
        "output_dir": "models/phi2",
        "clean_cache": True,
    },
}

SHAPES: dict[str, Workflow] = {
    "tutorial": TUTORIAL,
    "flat-int4": {
        "input_model": PHI,
        "systems": system(CPU),
        "passes": {"builder": builder(int4_block_size=64, int4_accuracy_level=4)},
        "host": "local_system",
        "target": "local_system",
        "cache_dir": "cache",
        "output_dir": "models",
    },
    "no-search-strategy-false": {
        "input_model": PHI,
        "passes": {"builder": builder()},
        "engine": {"search_strategy": False, "target": {"type": "LocalSystem", "accelerators": ["cpu"]}},
    },
    "device-in-config": {
        "input_model": LLAMA_OLD,
        "systems": {"sys": {"type": "LocalSystem", "config": {"device": "gpu"}}},
        "passes": {"builder": {"type": "modelbuilder", "config": {"precision": "fp16"}, "disable_search": True}},
        "engine": {"target": "sys", "log_severity_level": 0},
    },
    "cuda-int4": {
        "input_model": {**PHI, "load_kwargs": {"trust_remote_code": True, "attn_implementation": "eager"}},
        "systems": system(GPU),
        "passes": {"builder": builder(enable_cuda_graph=True, int4_algo_config="k_quant_mixed")},
        "target": "local_system",
    },
    "flows": {
        "input_model": LLAMA_OLD,
        "passes": {
            "conversion": {"type": "OnnxConversion", "target_opset": 17, "save_as_external_data": True},
            "fp32": {"type": "OrtTransformersOptimization", "model_type": "gpt2", "float16": False, "use_gqa": False},
            "int4": {"type": "OnnxMatMul4Quantizer", "block_size": 32, "is_symmetric": True},
            "int8": {"type": "OnnxDynamicQuantization", "per_channel": False, "reduce_range": False},
        },
        "pass_flows": [["conversion", "fp32", "int4"], ["conversion", "fp32", "int8"], ["conversion", "fp32"]],
        "packaging_config": {"type": "Zipfile", "name": "llama2"},
        "output_dir": "models/llama2",
    },
    "alternatives": {
        "input_model": PHI,
        "systems": system(CPU),
        "passes": {
            "conversion": [{"type": "OnnxConversion"}],
            "quantization": [
                {"type": "OnnxBlockWiseRtnQuantization", "bits": 4, "block_size": 128},
                {"type": "OnnxKQuantQuantization", "bits": 8, "block_size": 32},
                {"type": "OnnxHqqQuantization", "block_size": 64},
            ],
        },
        "search_strategy": {"execution_order": "joint", "sampler": "sequential"},
        "evaluators": {"speed": {"metrics": [latency("token_latency", "p90")]}},
        "evaluator": "speed",
    },
    "gptq-searched": {
        "input_model": PHI,
        "systems": system(CPU),
        "data_configs": [WIKITEXT],
        "passes": {"gptq": {"type": "Gptq", "data_config": "wikitext2"}, "builder": builder()},
        "search_strategy": {"execution_order": "joint", "sampler": "tpe", "max_samples": 30, "seed": 0},
    },
    "searchable-values": {
        "input_model": PHI,
        "passes": {
            "quantize": {
                "type": "OnnxMatMul4Quantizer",
                "config": {
                    "block_size": "SEARCHABLE_VALUES",
                    "is_symmetric": "DEFAULT_SEARCHABLE_VALUES",
                    "accuracy_level": "DEFAULT_VALUE",
                    "algorithm": "RTN",
                },
            }
        },
        "engine": {"search_strategy": {"execution_order": "pass-by-pass", "search_algorithm": "random"}},
    },
    "listed-values": {
        "input_model": PHI,
        "passes": {
            "quantize": {
                "type": "OnnxMatMul4Quantizer",
                "block_size": {"type": "categorical", "support": [16, 64, 100]},
                "is_symmetric": [True, False],
            }
        },
        "search_strategy": True,
    },
    "selective-mixed": {
        "input_model": {**PHI, "load_kwargs": {"torch_dtype": "float16"}},
        "systems": system(CPU),
        "passes": {
            "s": {
                "type": "SelectiveMixedPrecision",
                "algorithm": "kld_gradient",
                "bits": 4,
                "high_bits": 8,
                "ratio": 0.65,
            },
            "g": {"type": "gptq", "bits": 4, "sym": False, "group_size": 128},
            "r": {"type": "rtn", "bits": 8, "sym": False, "group_size": 128, "lm_head": True, "embeds": True},
            "m": builder(),
            "t": {"type": "GraphSurgeries", "surgeries": [{"surgeon": "TieWordEmbeddings"}]},
        },
        "target": "local_system",
        "evaluators": {"mmlu": {"type": "LMEvaluator", "tasks": ["mmlu"], "batch_size": 1}},
        "evaluator": "mmlu",
        "evaluate_input_model": False,
    },
    "awq": {
        "input_model": PHI,
        "passes": {"awq": {"type": "AutoAWQQuantizer", "w_bit": 4, "q_group_size": 128}, "builder": builder()},
    },
    "quarot-gptq": {
        "input_model": PHI,
        "data_configs": [WIKITEXT],
        "passes": {
            "quarot": {"type": "QuaRot", "rotate_mode": "hadamard"},
            "gptq": {
                "type": "GptqQuantizer",
                "bits": 4,
                "group_size": 32,
                "desc_act": False,
                "data_config": "wikitext2",
            },
            "builder": builder(),
        },
    },
    "qlora": {
        "input_model": PHI,
        "data_configs": {
            "tiny": {
                "type": "HuggingfaceContainer",
                "params_config": {"data_name": "nampdn-ai/tiny-codes", "split": "train[:100]", "text_cols": ["a", "b"]},
            }
        },
        "passes": {
            "qlora": {"type": "QLoRA", "train_data_config": "tiny", "training_args": {"max_steps": 15}},
            "merge": {"type": "MergeAdapterWeights"},
            "builder": builder(precision="fp32"),
        },
    },
    "static-int8": {
        "input_model": PHI,
        "data_configs": [WIKITEXT],
        "passes": {
            "conversion": {"type": "OptimumConversion"},
            "quantization": {
                "type": "OnnxStaticQuantization",
                "data_config": "wikitext2",
                "calibrate_method": "MinMax",
                "activation_type": "QUInt8",
                "weight_type": "QInt8",
            },
        },
    },
    "perf-tuning": {
        "input_model": PHI,
        "passes": {
            "builder": builder(),
            "tune": {
                "type": "OrtSessionParamsTuning",
                "intra_thread_num_list": [2, 4, 8],
                "opt_level_list": [1, 99],
                "execution_mode_list": [0, 1],
                "io_bind": True,
            },
        },
        "search_strategy": {"sampler": "random", "max_samples": 9, "max_time": 3600, "stop_when_goals_met": True},
    },
    "metrics": {
        "input_model": PHI,
        "systems": system(CPU),
        "data_configs": [{**WIKITEXT, "name": "eval", "pre_process_data_config": {"text_template": "{page}"}}],
        "passes": {"builder": builder(precision="int8")},
        "evaluators": {
            "all": {
                "metrics": [
                    {
                        "name": "perplexity",
                        "type": "accuracy",
                        "sub_types": [
                            {
                                "name": "perplexity",
                                "priority": 2,
                                "goal": {"type": "percent-max-degradation", "value": 3},
                            }
                        ],
                    },
                    {
                        "name": "throughput",
                        "type": "throughput",
                        "sub_types": [
                            {"name": "avg", "priority": 1, "goal": {"type": "percent-min-improvement", "value": 50}},
                            {"name": "max"},
                        ],
                    },
                    {
                        "name": "size",
                        "type": "size_on_disk",
                        "sub_types": [{"name": "bytes", "priority": 3, "goal": {"type": "threshold", "value": 3e9}}],
                    },
                ]
            }
        },
        "evaluator": "all",
        "search_strategy": {"sampler": "tpe"},
    },
    "old-metric": {
        "input_model": LLAMA_OLD,
        "evaluators": {
            "common": {
                "metrics": [
                    {
                        "name": "latency_prompt_processing",
                        "type": "latency",
                        "sub_type": "avg",
                        "goal": {"type": "max-degradation", "value": 5},
                        "user_config": {"user_script": "user_script.py", "dataloader_func": "loader", "batch_size": 2},
                    }
                ]
            }
        },
        "passes": {"builder": {"type": "ModelBuilder", "config": {"precision": "int4"}}},
        "engine": {"evaluator": "common", "execution_providers": ["CPUExecutionProvider"], "verbose": True},
    },
    "inline-evaluator": {
        "input_model": PHI,
        "passes": {"builder": builder()},
        "evaluator": {"metrics": [latency(type="threshold", value=900)]},
    },
    "python-environment": {
        "input_model": LLAMA_OLD,
        "systems": {
            "python_system": {
                "type": "PythonEnvironment",
                "accelerators": [
                    {"device": "GPU", "execution_providers": ["CPUExecutionProvider", "CUDAExecutionProvider"]}
                ],
                "olive_managed_env": True,
            }
        },
        "passes": {"fp16": {"type": "OrtTransformersOptimization", "float16": True, "use_gqa": True}},
        "host": "python_system",
        "target": "python_system",
    },
    "dml": {
        "input_model": PHI,
        "systems": system({"device": "gpu", "execution_providers": ["DmlExecutionProvider"]}),
        "passes": {
            "builder": builder(),
            "fp16": {"type": "OnnxFloatToFloat16"},
            "io": {"type": "OnnxIOFloat16ToFloat32"},
        },
        "target": "local_system",
    },
    "vitis-only": {
        "input_model": PHI,
        "systems": system({"device": "npu", "execution_providers": ["VitisAIExecutionProvider"]}),
        "passes": {
            "quark": {"type": "QuarkQuantization", "quant_scheme": "w_uint4"},
            "meta": {"type": "VitisAIAddMetaData"},
        },
        "target": "local_system",
    },
    "openvino": {
        "input_model": PHI,
        "systems": system(
            {"device": "cpu", "execution_providers": [["OpenVINOExecutionProvider", {"device_type": "CPU"}]]}
        ),
        "passes": {"convert": {"type": "OpenVINOOptimumConversion"}, "pack": {"type": "OpenVINOEncapsulation"}},
        "target": "local_system",
    },
    "fp16-on-cpu": {
        "input_model": PHI,
        "systems": system(CPU),
        "passes": {"builder": builder(precision="fp16")},
        "target": "local_system",
    },
    "auto-optimizer": {
        "workflow_id": "auto opt!",
        "input_model": PHI,
        "auto_optimizer_config": {"precisions": ["fp16", "int4"]},
        "search_strategy": {"execution_order": "joint", "search_algorithm": "tpe", "num_samples": 5, "seed": 0},
        "azureml_client": {"subscription_id": "x"},
    },
    "extra-options": {
        "input_model": PHI,
        "passes": {
            "builder": builder(
                extra_options={"int4_is_symmetric": False, "int4_op_types_to_quantize": ["MatMul", "Gather"]},
                exclude_embeds=False,
                search={"max_length": 512},
            )
        },
    },
    "local-folder": {
        "input_model": {
            "type": "HfModel",
            "model_path": {"type": "local_folder", "config": {"path": "checkpoints/mine"}},
            "adapter_path": "adapters/mine",
            "io_config": {"input_names": ["input_ids"]},
        },
        "passes": {"builder": builder()},
    },
    "genai-folder": {
        "input_model": {"type": "ONNXModel", "model_path": "models/phi3-onnx", "onnx_file_name": "model.onnx"},
        "passes": {"quantize": {"type": "OnnxMatMul4Quantizer", "nodes_to_exclude": ["/lm_head/MatMul"]}},
    },
    "strange-values": {
        "input_model": PHI,
        "passes": {
            "builder": builder(precision="<place_holder>", int4_block_size=7, int4_accuracy_level="int8"),
            "unknown": {"type": "BrandNewPass", "knob": 3},
            "gptq": {"type": "Gptq", "bits": 3, "group_size": -1},
        },
        "no_such_key": 1,
    },
}

#: Workflow -> a word of the reason why it is refused.
REFUSED: dict[str, tuple[Workflow, str]] = {
    "bert": (
        {
            "input_model": {
                "type": "HfModel",
                "model_path": "Intel/bert-base-uncased-mrpc",
                "task": "text-classification",
            },
            "passes": {"conversion": {"type": "OnnxConversion"}},
        },
        "its task is 'text-classification'",
    ),
    "bert-old": (
        {
            "input_model": {
                "type": "PyTorchModel",
                "config": {"hf_config": {"model_name": "Intel/bert-base-uncased-mrpc"}},
            },
            "passes": {"optimize": {"type": "OrtTransformersOptimization", "config": {"model_type": "bert"}}},
        },
        "a model of type 'bert'",
    ),
    "resnet": (
        {
            "input_model": {
                "type": "PyTorchModel",
                "config": {"model_path": None, "model_loader": "load", "model_script": "user.py"},
            },
            "passes": {"conversion": {"type": "OnnxConversion"}},
        },
        "Python code of its own (user.py)",
    ),
    "vit": (
        {"input_model": {"type": "HfModel", "model_path": "google/vit", "task": "image-classification"}, "passes": {}},
        "its task is 'image-classification'",
    ),
    "whisper": (
        {
            "input_model": {
                "type": "PyTorchModel",
                "config": {
                    "hf_config": {"model_class": "WhisperForConditionalGeneration", "model_name": "openai/whisper-tiny"}
                },
            },
            "passes": {"beam": {"type": "InsertBeamSearch"}},
        },
        "WhisperForConditionalGeneration",
    ),
    "diffusion": ({"input_model": {"type": "DiffusersModel", "model_path": "sd"}, "passes": {}}, "an image generator"),
    "single-graph": (
        {"input_model": {"type": "ONNXModel", "config": {"model_path": "model.onnx"}}, "passes": {}},
        "model.onnx is a single graph",
    ),
    "azure": (
        {
            "input_model": {
                "type": "HfModel",
                "model_path": {"type": "azureml_registry_model", "config": {"name": "phi"}},
            },
            "passes": {},
        },
        "Azure Machine Learning",
    ),
    "composite": (
        {"input_model": {"type": "CompositeModel", "config": {"model_components": []}}, "passes": {}},
        "composite",
    ),
}
