"""Models on the Hugging Face hub: found, checked and fetched, or one clear error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from olivine.passes.errors import SourceError
from olivine.passes.sources.checkpoint import check_tokenizer, check_weights, patterns, taken
from olivine.passes.sources.license import license_of_tags

_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class HubModel:
    """A model at one commit.

    Attributes:
        commit: the commit that the asked revision stands for.
        config: its config.json, fetched.
        weight_bytes: size of its safetensors.
        license: as the hub has it; empty where it has none, or could not be reached.
    """

    commit: str
    config: Path
    weight_bytes: int
    license: str = ""


def find(name: str, revision: str | None, trust_remote_code: bool) -> HubModel:
    """Look a model up; only config.json is fetched.

    A hub that can't be reached is no obstacle where an earlier run has left the files in the hub's own cache.

    Raises:
        SourceError: no such model or revision, gated, no safetensors, hub unreachable and nothing cached.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled  # type: ignore[attr-defined] # HTTPError is httpx's

    try:
        with _one_error(name, revision):
            try:
                info = HfApi().model_info(name, revision=revision, files_metadata=True, timeout=_TIMEOUT_S)
            except (HTTPError, OfflineModeIsEnabled) as error:
                unreached = getattr(error, "response", None) is None
                if unreached and (cached := _cached(name, revision, trust_remote_code)):
                    return cached
                raise
            sizes = {sibling.rfilename: sibling.size or 0 for sibling in info.siblings or []}
            where = f"model '{name}' on the hub"
            if "config.json" not in sizes:
                raise SourceError(f"{where} has no config.json: is it a model that transformers loads?")
            check_weights([name for name in sizes if "/" not in name], where)
            if not trust_remote_code:
                check_tokenizer(sizes, where)
            weights = sum(sizes[f] for f in taken(sizes, trust_remote_code) if f.endswith(".safetensors"))
            config = Path(hf_hub_download(name, "config.json", revision=info.sha))
            return HubModel(str(info.sha), config, weights, license_of_tags(info.tags or ()))
    except OSError as error:
        raise _unreachable(name, error) from error


def fetch(name: str, commit: str, trust_remote_code: bool) -> Path:
    """The model's files in the hub's cache, downloaded where they are not there yet.

    Raises:
        SourceError: when the hub fails.
    """
    from huggingface_hub import snapshot_download

    try:
        with _one_error(name, commit):
            return Path(snapshot_download(name, revision=commit, allow_patterns=patterns(trust_remote_code)))
    except OSError as error:
        raise _unreachable(name, error) from error


def cache_folder() -> Path:
    """Folder in which the hub's client keeps its downloads."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _cached(name: str, revision: str | None, trust_remote_code: bool) -> HubModel | None:
    """The model as an earlier run left it in the hub's cache; None where it is not complete."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=patterns(trust_remote_code), local_files_only=True
            )
        )
    except LocalEntryNotFoundError:
        return None
    weights = [f for f in folder.glob("*.safetensors") if f.exists()]
    if not weights or not (folder / "config.json").exists():
        return None
    return HubModel(folder.name, folder / "config.json", sum(os.path.getsize(f) for f in weights))


@contextmanager
def _one_error(name: str, revision: str | None) -> Iterator[None]:
    """Every way the hub can say no, as one SourceError."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined] # HTTPError is httpx's
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        HTTPError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise SourceError(
            f"Model '{name}' is gated: accept its terms on its page, then log in with `hf auth login` or set HF_TOKEN."
        ) from error
    except RepositoryNotFoundError as error:
        raise SourceError(
            f"The hub has no model '{name}', or it is private: check the spelling, or log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise SourceError(
            f"Model '{name}' has no revision '{revision}': give a branch, tag or commit of it."
        ) from error
    except HFValidationError as error:
        raise SourceError(f"'{name}' is not a hub id (organization/name): {error}") from error
    except (HfHubHTTPError, HTTPError) as error:
        raise _unreachable(name, error) from error


def _unreachable(name: str, error: Exception) -> SourceError:
    return SourceError(
        f"Model '{name}' can't be fetched: there is no such folder here, and the Hugging Face hub does not "
        f"answer ({error}). Check the network and HF_ENDPOINT, or give a checkpoint folder, a GGUF file, or "
        "demo:smollm2-135m-instruct, which needs no hub."
    )
