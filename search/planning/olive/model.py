"""Model and execution provider of a workflow of Olive; a workflow of another kind of model is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from olivine.passes.errors import UsageError
from olivine.search.planning.olive.workflow import Notes, Workflow, mapping, sequence

_CAUSAL = re.compile(r"(text-generation|causal-lm|causallm)(-with-past)?", re.IGNORECASE)
#: ``model_type`` of onnxruntime.transformers for models that generate no text; gpt2 stands for any decoder there.
_OTHERS = ("bert", "bart", "vit", "swin", "clip", "unet", "vae", "sam2", "t5", "whisper", "conformer", "tnlr", "mmdit")
#: Passes that only other models have.
_FOREIGN_PASSES = {
    "insertbeamsearch": "beam search is put into the graph of a speech or translation model",
    "appendprepostprocessingops": "pre- and postprocessing of images or audio",
    "prependprepostprocessingops": "pre- and postprocessing of images or audio",
    "sdlora": "an image generator",
}
_MODEL_KINDS = {
    "compositemodel": "a composite of several graphs",
    "diffusersmodel": "an image generator",
    "openvinomodel": "a compiled OpenVINO model",
    "qnnmodel": "a compiled QNN model",
    "snpemodel": "a compiled SNPE model",
    "tensorflowmodel": "a TensorFlow model",
    "tfmodel": "a TensorFlow model",
    "distributedonnxmodel": "a model cut over several devices",
}
_PROVIDERS = {
    "CPUExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "DmlExecutionProvider": "dml",
    "WebGpuExecutionProvider": "webgpu",
    "JsExecutionProvider": "webgpu",
    "OpenVINOExecutionProvider": "openvino",
    "QNNExecutionProvider": "qnn",
    "NvTensorRTRTXExecutionProvider": "trt-rtx",
}


def model_of(workflow: Workflow, notes: Notes) -> dict[str, Any]:
    """``model:``, ``revision:`` and ``trust_remote_code:`` of a study.

    Raises:
        UsageError: when it is no causal language model, or none that can be fetched; the message says why.
    """
    settings = dict(workflow.model)
    hugging = mapping(settings.pop("hf_config", None))
    _refuse_others(workflow, hugging)
    name = _path(settings.pop("model_path", None)) or _path(hugging.pop("model_name", None))
    if not name:
        raise UsageError(
            f"input_model ({workflow.model_type}) names no checkpoint: it is made by Python code of its own "
            f"({settings.get('model_script') or settings.get('model_loader') or 'a loader'}). olivine takes a Hugging "
            "Face checkpoint, a GGUF file or an ONNX Runtime GenAI folder."
        )
    notes.keep("input_model", f"model: {name}")
    raw: dict[str, Any] = {"model": name}
    arguments: dict[str, Any] = {}
    for source in (settings, hugging):
        for key in ("load_kwargs", "from_pretrained_args", "model_loading_args"):
            arguments |= mapping(source.pop(key, None))
    for key in ("revision", "trust_remote_code"):
        value = arguments.pop(key, None) or settings.pop(key, None) or hugging.pop(key, None)
        if value:
            raw[key] = value if key == "revision" else bool(value)
            notes.keep(f"input_model.{key}", f"{key}: {str(raw[key]).lower()}")
    if (adapter := settings.pop("adapter_path", None)) is not None:
        notes.lose("input_model.adapter_path", f"export with --adapter NAME={adapter}, or merge it first")
    for key in ("torch_dtype", "dtype"):
        if arguments.pop(key, None) is not None:
            notes.lose(f"input_model.{key}", "weights are read as they are stored, and exported as the provider needs")
    for key in arguments:
        notes.lose(f"input_model.load_kwargs.{key}", "weights are read from safetensors; no model class is loaded")
    for key in {**settings, **hugging}:
        if key not in ("task", "model_class"):
            notes.lose(f"input_model.{key}", "the model builder knows inputs, outputs and attributes of a decoder")
    return raw


def _path(place: object) -> str:
    """A model path: text, or a resource with its place in it."""
    if isinstance(place, Mapping):
        resource = {**place, **mapping(place.get("config"))}
        kind = str(resource.get("type", ""))
        if "azureml" in kind.lower():
            raise UsageError(
                f"input_model lies in Azure Machine Learning ({kind}); fetch it, and name the folder as model_path"
            )
        place = resource.get("path") or resource.get("name")
    return str(place) if place else ""


def _refuse_others(workflow: Workflow, hugging: Mapping[str, Any]) -> None:
    """Refuse a model that generates no text.

    Raises:
        UsageError: naming the part of the workflow that shows it.
    """
    kind = workflow.model_type
    task = str(workflow.model.get("task") or hugging.get("task") or "")
    cls = str(workflow.model.get("model_class") or hugging.get("model_class") or "")
    path = _path(workflow.model.get("model_path")) if not hugging else ""
    why = ""
    if kind in _MODEL_KINDS:
        why = f"its input_model is {_MODEL_KINDS[kind]}"
    elif kind not in ("hfmodel", "pytorchmodel", "onnxmodel", ""):
        why = f"its input_model is of type '{kind}'"
    elif kind == "onnxmodel" and path.endswith(".onnx"):
        why = f"{path} is a single graph, without the genai_config.json and tokenizer of a language model"
    elif task and not _CAUSAL.fullmatch(task):
        why = f"its task is '{task}'"
    elif cls and not cls.endswith(("ForCausalLM", "LMHeadModel")) and cls != "AutoModel":
        why = f"its model class is {cls}"
    elif hugging.get("components") or workflow.model.get("model_components"):
        why = "it has several components"
    for flow in workflow.flows:
        for olive_pass in flow:
            word = str(olive_pass.params.get("model_type", "")).lower()
            if olive_pass.kind in _FOREIGN_PASSES:
                why = why or f"{olive_pass.place} is for {_FOREIGN_PASSES[olive_pass.kind]}"
            elif olive_pass.kind == "orttransformersoptimization" and word in _OTHERS:
                why = why or f"{olive_pass.place} optimizes a model of type '{word}'"
    if why:
        raise UsageError(
            f"The workflow has no causal language model: {why}. olivine searches builds of models that continue text, "
            "exported by the model builder of ONNX Runtime GenAI."
        )


def provider_of(workflow: Workflow, notes: Notes) -> str:
    """The provider of the target system: the first that olivine knows, others before the CPU's."""
    target = dict(workflow.target)
    kind = str(target.pop("type", "LocalSystem"))
    devices, named = [], [str(provider) for provider in sequence(workflow.rest.get("execution_providers"))]
    for accelerator in sequence(target.pop("accelerators", None)) or [target.pop("device", None)]:
        about = accelerator if isinstance(accelerator, Mapping) else {"device": accelerator}
        devices.append(str(about.get("device") or "").lower())
        for provider in sequence(about.get("execution_providers")):
            named.append(str(provider[0] if isinstance(provider, list) and provider else provider))
    for provider in named:
        if provider not in _PROVIDERS:
            notes.lose("systems", f"{provider}: the model builder makes no graphs for it, or olivine has not met it")
    usual = {"gpu": ["cuda"], "npu": ["qnn"]}.get(devices[0] if devices else "", ["cpu"])
    known = list(dict.fromkeys(_PROVIDERS[provider] for provider in named if provider in _PROVIDERS))
    providers = known or (["cpu"] if named else usual)
    chosen = next((provider for provider in providers if provider != "cpu"), "cpu")
    notes.keep("systems", f"provider: {chosen}")
    for other in providers:
        if other != chosen:
            notes.lose("systems", f"provider {other}: a study compares with one float base; run it again with {other}")
    if "local" not in kind.lower():
        notes.lose("systems", f"{kind}: a study runs where it is started; an environment is named by providers:")
    for key in target:
        if key not in ("execution_providers", "name"):
            notes.lose(f"systems.{key}", "a study runs where it is started")
    return chosen
