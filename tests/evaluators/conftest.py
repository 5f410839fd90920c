from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))  # bigram.py: importlib mode adds no folder

from bigram import bigram_folder

from olivine.evaluators.process.client import ModelProcess

# No test depends on how fast the machine is.
settings.register_profile("any-machine", deadline=None)
settings.load_profile("any-machine")

#: Next-token probabilities after tokens 0, 1 and 2 of the tiny base, and of a candidate that differs after
#: token 1.
BASE = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
CANDIDATE = np.array([[0.5, 0.25, 0.25], [0.6, 0.2, 0.2], [0.3, 0.3, 0.4]])


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bigram_folder(tmp_path_factory.mktemp("bigram") / "base", np.log(BASE).astype(np.float32))


@pytest.fixture(scope="session")
def candidate_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bigram_folder(tmp_path_factory.mktemp("bigram") / "candidate", np.log(CANDIDATE).astype(np.float32))


@pytest.fixture(scope="session")
def nan_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = np.log(CANDIDATE).astype(np.float32)
    table[1, 2] = np.nan
    return bigram_folder(tmp_path_factory.mktemp("bigram") / "nan", table)


@pytest.fixture
def open_process() -> Iterator[Callable[..., ModelProcess]]:
    """Opens processes and closes them when the test ends."""
    processes: list[ModelProcess] = []

    def open_one(folder: Path, **options: Any) -> ModelProcess:
        processes.append(ModelProcess.open(folder, **options))
        return processes[-1]

    yield open_one
    for process in processes:
        process.close()
