"""The answers of ``olivine doctor`` and ``olivine provider add``: the machine, its providers, a model's support."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from olivine.evaluators.providers.state import ProviderState, State
from olivine.passes.providers import PROVIDERS
from olivine.search.answers.shape import Shape
from olivine.search.planning.doctor import Examined
from olivine.search.planning.model_support import Support


class Machine(Shape):
    """The machine that was examined."""

    cpu: str
    cores: int = Field(description="for this process")
    system: str
    ram_bytes: int
    free_ram_bytes: int
    cache: str = Field(description="folder")
    cache_bytes: int
    free_disk_bytes: int | None = Field(description="at the cache; null where it can't be made")
    hub: str = Field(description="a sentence about the Hugging Face hub")


class Provider(Shape):
    """An execution provider."""

    provider: str = Field(description="olivine's word, such as cuda")
    state: State
    detail: str
    runtime: str = Field(description="version of ONNX Runtime that was asked")
    devices: list[str]
    lacking_kernels: list[str] = Field(description="each with its verdict")
    ran: str = Field(description="what olivine has run on it")


class Doctor(Shape):
    """The state of this machine."""

    machine: Machine
    python: str = Field(description="version")
    versions: dict[str, str | None] = Field(description="package -> version; null where it is not installed")
    providers: list[Provider]


def doctor_answer(examined: Examined) -> Doctor:
    """An examined machine."""
    machine = {name: getattr(examined, name) for name in Machine.model_fields if name != "cache"}
    return Doctor(
        machine=Machine(cache=str(examined.cache), **machine),
        python=examined.python,
        versions=dict(examined.versions),
        providers=[provider_answer(provider) for provider in examined.providers],
    )


def provider_answer(provider: ProviderState) -> Provider:
    """The state of a provider."""
    return Provider(
        provider=provider.provider,
        state=provider.state,
        detail=provider.detail,
        runtime=provider.runtime,
        devices=list(provider.devices),
        lacking_kernels=list(provider.lacking),
        ran=PROVIDERS[provider.provider].ran,
    )


class AddedProvider(Shape):
    """An environment that was made for a provider."""

    environment: str = Field(description="folder")
    provider: Provider


def added_provider_answer(environment: Path, provider: ProviderState) -> AddedProvider:
    """An environment and how its provider does in it."""
    return AddedProvider(environment=str(environment), provider=provider_answer(provider))


class Fact(Shape):
    """Something about a model."""

    name: str
    sentence: str


class ModelSupport(Shape):
    """A model and how far it is supported."""

    model: str
    kind: str
    architecture: str
    dtype: str
    supported: bool
    weights: str = Field(description="a sentence on the weights, and why they are refused")
    facts: list[Fact]


def support_answer(support: Support) -> ModelSupport:
    """An examined model."""
    source = support.source
    return ModelSupport(
        model=source.name,
        kind=source.kind,
        architecture=source.architecture,
        dtype=source.dtype,
        supported=not support.refused,
        weights=support.weights,
        facts=[Fact(name=name, sentence=sentence) for name, sentence in support.facts],
    )
