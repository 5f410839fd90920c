"""The child side of a model process: one model, one request at a time, JSON lines on stdin and stdout.

Started by :mod:`olivine.evaluators.process.client`, maybe under an interpreter that has no olivine: it and what it
imports need the standard library, numpy, onnxruntime and onnxruntime_genai alone. Nothing is caught here: an exception
ends the process, and its traceback on stderr is the error message of the parent. A request is ``{"id": number, "do":
command, ...arguments}``, its answer ``[number, message]``; a command is the method of that name of a server.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import BinaryIO

from olivine.evaluators.process.lifecycle import begin
from olivine.evaluators.process.servers.genai import GenaiServer
from olivine.evaluators.process.servers.graph import GraphServer
from olivine.evaluators.process.servers.memory import MemoryServer
from olivine.evaluators.process.servers.provider import EXIT_PROVIDER, ProviderUnavailable
from olivine.evaluators.process.servers.session import SessionServer

SERVERS: dict[str, type[MemoryServer]] = {"genai": GenaiServer, "session": SessionServer, "graph": GraphServer}
PARENT_CHECK_S = 2.0


def watch_parent(parent: int) -> None:
    """End this process when its parent is gone, also while native code runs."""
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_S)
    os._exit(1)


def serve(requests: BinaryIO, answers: BinaryIO, server: MemoryServer) -> None:
    """Answer requests until the parent closes the pipe."""
    for line in requests:
        request = json.loads(line)
        number, command = request.pop("id"), request.pop("do")
        message = getattr(server, command)(**request)
        answers.write(json.dumps([number, asdict(message)]).encode() + b"\n")
        answers.flush()


def main() -> int:
    """Keep stdout for answers alone, import the libraries, serve."""
    begin()
    threading.Thread(target=watch_parent, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native libraries print goes to stderr and can't break the protocol
    try:
        serve(sys.stdin.buffer, answers, SERVERS[sys.argv[3]]())
    except ProviderUnavailable as error:
        print(error, file=sys.stderr)
        return EXIT_PROVIDER
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # no destructors: a model that is about to vanish need not be torn down
