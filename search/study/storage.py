"""The storage of the Optuna study: SQLite in the study folder, a database server, or the gRPC proxy in front of one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import optuna
from optuna.storages import BaseStorage, get_storage
from sqlalchemy.exc import IntegrityError, ProgrammingError

from olivine.evaluators.metric import METRICS
from olivine.passes.errors import UsageError
from olivine.search.study.optuna_adapter import name_metrics
from olivine.search.study_dir import StudyDir

#: Name of a study in the database of its folder.
STUDY_NAME = "olivine"
GRPC = "grpc"
DEFAULT_PORT = 13000
#: Seconds that a study waits for another program that holds its SQLite file.
LOCK_WAIT_S = 60.0
#: Seconds that a proxy is given to answer.
READY_S = 20.0
#: Attempts to find the tables of a new database, and seconds between them.
TABLE_ATTEMPTS, TABLE_S = 6, 0.5
_FORMS = (
    "Forms: postgresql://USER:PASSWORD@HOST/DATABASE, mysql://..., sqlite:///FILE, or grpc://HOST:PORT for Optuna's "
    "proxy."
)
_NEEDS = "pip install 'olivine[distributed]' brings what PostgreSQL and the proxy need"


class StorageUnavailable(UsageError):
    """A storage that can't be reached, or whose driver is not installed."""


def open_storage(folder: StudyDir, objectives: Sequence[str]) -> optuna.Study:
    """The Optuna study in the study folder, in SQLite; made where it is not there."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        study_name=STUDY_NAME,
        storage=_sqlite(folder),
        directions=[METRICS[name].direction for name in objectives],
        load_if_exists=True,
    )
    return name_metrics(study, objectives)


def _sqlite(folder: StudyDir) -> optuna.storages.RDBStorage:
    """The database in the study folder; a process that finds it locked waits."""
    wait = {"connect_args": {"timeout": LOCK_WAIT_S}}
    return optuna.storages.RDBStorage(folder.database_url, engine_kwargs=wait)


def connect(url: str) -> BaseStorage:
    """The storage behind a URL, reached and ready.

    Raises:
        StorageUnavailable: when it does not answer, its driver is missing, or the URL has another form.
    """
    url = url.replace("sqlite:///~", f"sqlite:///{Path.home()}", 1) if url.startswith("sqlite:///~/") else url
    try:
        return _proxy(url) if urlsplit(url).scheme == GRPC else _database(url)
    except StorageUnavailable:
        raise
    except ImportError as error:
        raise StorageUnavailable(f"{shown(url)}: {error}; {_NEEDS}. {_FORMS}") from error
    except Exception as error:  # each driver raises its own
        reason = str(error.__cause__ or error).strip().split("\n")[0]
        raise StorageUnavailable(f"{shown(url)} can't be used: {reason}. {_FORMS}") from error


def _database(url: str) -> BaseStorage:
    """A database; where several workers make its tables at the same moment, all but one fail, and find them later."""
    for _ in range(TABLE_ATTEMPTS - 1):
        try:
            return get_storage(url)
        except (IntegrityError, ProgrammingError):
            time.sleep(TABLE_S)
    return get_storage(url)


def _proxy(url: str) -> BaseStorage:
    from optuna.storages import GrpcStorageProxy

    place = urlsplit(url)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        proxy = GrpcStorageProxy(host=place.hostname or "localhost", port=place.port or DEFAULT_PORT)
    try:
        proxy.wait_server_ready(READY_S)
    except ConnectionError as error:
        raise StorageUnavailable(
            f"{url}: no proxy answered within {READY_S:g} s; 'olivine proxy' starts one"
        ) from error
    return proxy


def shown(url: str) -> str:
    """The URL as it may be printed: without its password."""
    place = urlsplit(url)
    if place.password is None:
        return url
    return url.replace(f":{place.password}@", ":...@", 1)


def serve_proxy(url: str, host: str, port: int) -> None:
    """Serve Optuna's gRPC proxy of a storage until interrupted.

    Raises:
        StorageUnavailable: when the storage, or the port, can't be used.
    """
    from optuna.storages import run_grpc_proxy_server

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = connect(url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            run_grpc_proxy_server(storage, host=host, port=port)
    except RuntimeError as error:
        raise StorageUnavailable(
            f"Port {port} of {host} can't be used ({error}). Give another one with --port."
        ) from error
