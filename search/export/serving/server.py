"""OpenAI's chat completions over HTTP: ``/v1/chat/completions``, ``/v1/models``, and ``/health``.

There is no login and no encryption: what faces strangers needs a proxy in front.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Sequence
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from olivine.search.export.serving.chat_request import parse_request
from olivine.search.export.serving.completion import Completion
from olivine.search.export.serving.errors import Refused, Unusable
from olivine.search.export.serving.model import Finished, Model, Piece
from olivine.search.export.serving.turns import Turns

#: Bytes of a request's body.
MAX_BODY_BYTES = 4_000_000
#: Seconds in which a request's body has to come.
BODY_S = 30
#: Seconds that answers get to end when the server is told to stop.
GRACE_S = 5
#: Seconds that those that have not are given to tell their clients.
TELL_S = 5
#: Requests that may wait for those under way.
MAX_WAITING = 64
_LOOPBACK = ("127.0.0.1", "localhost")
#: What a web server logs for a client that has gone; nobody reads it.
_GONE = 499


class Routes:
    """The answers to each path."""

    def __init__(self, turns: Turns, names: Sequence[str], max_tokens: int) -> None:
        self._turns = turns
        self._max_tokens = max_tokens
        about = {"object": "model", "created": int(time.time()), "owned_by": "olivine"}
        self._models = {name: {"id": name, **about} for name in names}
        self._usual = names[0]

    async def health(self, request: Request) -> Response:
        """Tell that the model is loaded, and what goes on."""
        return JSONResponse({"status": "ok", "context_tokens": self._max_tokens, **self._turns.counts()})

    async def models(self, request: Request) -> Response:
        """List the model, and each of its adapters as one of its own."""
        return JSONResponse({"object": "list", "data": list(self._models.values())})

    async def model(self, request: Request) -> Response:
        """Describe a model."""
        return JSONResponse(self._models[self._known(request.path_params["name"])])

    async def chat(self, request: Request) -> Response:
        """Answer a chat, whole or as a stream; errors before the first token have a status of their own."""
        wanted = parse_request(await _body(request))
        completion = Completion(self._turns, wanted, self._known(wanted.model or self._usual))
        watch = asyncio.create_task(completion.watch(request))
        try:
            first = await completion.next()
            if wanted.stream:
                return Stream(completion, first)
            return JSONResponse(await completion.whole(first))
        except BaseException:
            completion.cancel()
            raise
        finally:
            watch.cancel()

    def _known(self, name: str) -> str:
        if name not in self._models:
            why = f"there is no model {name!r} here; this server has {', '.join(map(repr, self._models))}"
            raise Refused(404, why, "model", "model_not_found")
        return name


class Stream(StreamingResponse):
    """A streamed answer, which ends with its client."""

    def __init__(self, completion: Completion, first: Piece | Finished) -> None:
        super().__init__(completion.stream(first), media_type="text/event-stream")
        self._completion = completion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream, and stop generating however it ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._completion.cancel()


def make_app(turns: Turns, names: Sequence[str], max_tokens: int, hosts: Sequence[str] = ("*",)) -> Starlette:
    """Make the ASGI application.

    Args:
        turns: that answer.
        names: of the model, then of its adapters.
        max_tokens: of a prompt and its answer.
        hosts: that requests may be addressed to.
    """
    routes = Routes(turns, names, max_tokens)
    return Starlette(
        routes=[
            Route("/health", routes.health),
            Route("/v1/models", routes.models),
            Route("/v1/models/{name:path}", routes.model),
            Route("/v1/chat/completions", routes.chat, methods=["POST"]),
        ],
        # Else a web page could reach a server on loopback under a host name of its own.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={Refused: _refused, HTTPException: _no_route, ClientDisconnect: _gone},
    )


class Server(uvicorn.Server):
    """A server that ends the answers under way as OpenAI's API would, and does not cut them off, when it stops."""

    def __init__(self, app: Starlette, turns: Turns, log_level: str) -> None:
        wait = GRACE_S + TELL_S
        # There is nothing to do before the first request and after the last; a second signal would leave it undone.
        super().__init__(uvicorn.Config(app, log_level=log_level, timeout_graceful_shutdown=wait, lifespan="off"))
        self._turns = turns

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let answers end for a while, then end them; at once where a second signal asks for it."""
        grace = asyncio.get_running_loop().call_later(GRACE_S, self._turns.stop)
        try:
            await super().shutdown(sockets)
        finally:
            grace.cancel()
            self._turns.stop()
        if tasks := list(self.server_state.tasks):
            await asyncio.wait(tasks, timeout=TELL_S)


def serve(model: Model, name: str, host: str, port: int, at_once: int) -> None:
    """Serve a model until SIGINT or SIGTERM, which a container's first process has to ask for.

    Raises:
        Unusable: when the address can't be served on.
    """
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise Unusable(f"can't serve on {host}:{port}: {error.strerror}") from None
    hosts = _LOOPBACK if host in _LOOPBACK else ("*",)
    turns = Turns(model, at_once, MAX_WAITING)
    server = Server(make_app(turns, (name, *model.adapters), model.max_tokens, hosts), turns, "warning")
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn ends well and sends itself the signal again
        signal.signal(number, _interrupt)
    try:
        with listening:
            print(f"serving {name} on http://{host}:{listening.getsockname()[1]}/v1", flush=True)
            server.run(sockets=[listening])
    except KeyboardInterrupt:
        print("stopped", flush=True)
    finally:
        turns.close()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    except TimeoutError:
        raise Refused(408, f"the body did not come within {BODY_S} seconds") from None
    return bytes(body)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return JSONResponse(error.to_json(), error.status)


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    why = f"{request.method} {request.url.path}: {error.detail}; POST /v1/chat/completions and GET /v1/models are here"
    return JSONResponse(Refused(error.status_code, why).to_json(), error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=_GONE)
