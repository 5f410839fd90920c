"""Execution providers: the precisions that each one takes, and what it needs, in one table.

Precisions were tried on a CPU: every graph named here was built by the model builder 0.18 and loads. ``ran`` tells
the providers on which a model has really run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        floats: float precisions whose graphs it runs, the usual one first; integer weights lie on the first.
        layout: whose graph the model builder makes for it.
        machine: needs that pip can't install, in words; empty where there are none.
        packages: packages that pip installs; one flavour of ONNX Runtime replaces another in an environment.
        environment: pinned packages that ``olivine provider add`` installs for it into an environment of its own.
        genai: that environment can hold ONNX Runtime GenAI; else models run in a session of ONNX Runtime.
        entry: its entry in genai_config.json where it runs another provider's graph; else the builder writes one.
        probe_options: options that ONNX Runtime needs to start it on any machine that has its libraries.
        refused: precision -> why it does not run; ``integers`` stands for int8, int4 and mixed.
        ran: runs on it in this project, as the object of "olivine has run".
    """

    floats: tuple[str, ...]
    layout: str
    machine: str
    packages: tuple[str, ...]
    entry: Mapping[str, Mapping[str, str]] | None = None
    probe_options: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    ran: str = "nothing on it so far"
    environment: tuple[str, ...] = ()
    genai: bool = True

    def refusal(self, precision: str) -> str | None:
        """The reason why it can't run a graph of this precision, in words; None where it can."""
        integers = precision not in ("fp32", "fp16", "bf16")
        if "integers" in self.refused if integers else precision not in self.floats:
            return self.refused.get(
                "integers" if integers else precision, "the model builder makes no such graph for it"
            )
        return None

    @property
    def needs(self) -> str:
        """Requirements of an installation, in words."""
        machine = f"{self.machine}, and " if self.machine else ""
        return f"{machine}pip install {' '.join(self.packages)}"


_NO_PRESENT = (
    "the model builder's float32 graph for it does not load: its cache outputs (present.0.key) are given by no node"
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType(
    {
        "cpu": Provider(
            floats=("fp32",),
            layout="cpu",
            machine="",
            packages=("onnxruntime", "onnxruntime-genai"),
            refused={
                "fp16": "ONNX Runtime's CPU provider computes fp16 through casts and fails in the first decode step",
                "bf16": "ONNX Runtime's CPU provider has no bf16 kernels (Where, among others): such a graph does "
                "not load",
            },
            ran="whole studies on it",
        ),
        "cuda": Provider(
            floats=("fp16", "bf16"),
            layout="cuda",
            machine="an NVIDIA GPU of compute capability 7.5 (bf16: 8.0) or later with a driver for CUDA 13",
            packages=("'onnxruntime-gpu[cuda,cudnn]'", "onnxruntime-genai-cuda"),
            refused={"fp32": _NO_PRESENT},
            ran="nothing on it so far: its graphs are built in tests, without a GPU",
            environment=("onnxruntime-gpu[cuda,cudnn]==1.31.1", "onnxruntime-genai-cuda==0.18.0", "numpy==2.4.6"),
        ),
        "dml": Provider(
            floats=("fp16",),
            layout="dml",
            machine="Windows with a DirectX 12 GPU",
            packages=("onnxruntime-directml", "onnxruntime-genai-directml"),
            environment=("onnxruntime-directml==1.24.4", "onnxruntime-genai-directml==0.14.1", "numpy==2.4.6"),
            refused={"fp32": _NO_PRESENT},
        ),
        "webgpu": Provider(
            floats=("fp16", "fp32"),
            layout="webgpu",
            machine="a GPU with Vulkan, Metal or DirectX 12",
            packages=("onnxruntime-webgpu", "onnxruntime-genai"),
            environment=("onnxruntime-webgpu==1.27.0", "numpy==2.4.6"),
            genai=False,  # onnxruntime-genai 0.18 asks for ONNX Runtime 1.31
        ),
        "trt-rtx": Provider(
            floats=("fp16", "bf16"),
            layout="trt-rtx",
            machine="Windows with an NVIDIA RTX GPU",
            packages=("onnxruntime-trt-rtx", "onnxruntime-genai-cuda"),
            environment=("onnxruntime-trt-rtx==1.23.2", "numpy==2.4.6"),
            genai=False,  # onnxruntime-genai-cuda 0.18 asks for ONNX Runtime 1.31
            refused={
                "integers": "it takes integer weights behind DequantizeLinear, and the passes here write MatMulNBits"
            },
        ),
        "qnn": Provider(
            floats=("fp32",),
            layout="cpu",
            machine="a Qualcomm NPU",
            packages=("onnxruntime-qnn", "onnxruntime-genai"),
            environment=("onnxruntime-qnn==2.7.0", "onnxruntime==1.31.1", "onnxruntime-genai==0.18.0", "numpy==2.4.6"),
            entry={"qnn": {}},
        ),
        "openvino": Provider(
            floats=("fp32",),
            layout="cpu",
            machine="",
            packages=("onnxruntime-openvino",),
            environment=("onnxruntime-openvino==1.24.1", "numpy==2.4.6"),
            genai=False,  # onnxruntime-genai 0.18 asks for ONNX Runtime 1.31 and its API, which 1.24 lacks
            entry={"OpenVINO": {"device_type": "CPU"}},
            probe_options={"device_type": "CPU"},
            ran="studies of the demo model on it; attention and quantized embeddings stay with the CPU provider",
        ),
    }
)
