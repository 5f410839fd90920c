"""One chat completion in OpenAI's words: whole, or as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.errors import Refused
from olivine.search.export.serving.model import Finished, Piece
from olivine.search.export.serving.turns import Event, Turns


class Completion:
    """A request under way; what the model's thread tells of it reaches the event loop through a queue."""

    def __init__(self, turns: Turns, wanted: ChatRequest, model: str) -> None:
        """Begin to answer.

        Raises:
            Refused: when too many requests wait already.
        """
        self._wanted = wanted
        self._turns = turns
        self._about = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._ticket = turns.start(wanted, lambda event: loop.call_soon_threadsafe(self._events.put_nowait, event))

    def cancel(self) -> None:
        """Stop generating, if the answer has not ended."""
        self._turns.cancel(self._ticket)

    async def watch(self, request: Request) -> None:
        """End the events when the client leaves."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._events.put_nowait(None)

    async def next(self) -> Piece | Finished:
        """Wait for the next piece, or the end.

        Raises:
            Refused: when the model refuses or fails.
            ClientDisconnect: when the client has left.
        """
        await asyncio.sleep(0)  # pieces of a fast model are always there, and who leaves has to be noticed between them
        event = await self._events.get()
        if event is None:
            raise ClientDisconnect
        if isinstance(event, Refused):
            raise event
        return event

    async def whole(self, event: Piece | Finished) -> dict[str, Any]:
        """Wait for the end, and give the completion.

        Args:
            event: the first one.
        """
        text = ""
        while isinstance(event, Piece):
            text += event.text
            event = await self.next()
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": event.reason}
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": _usage(event)}

    async def stream(self, event: Piece | Finished) -> AsyncIterator[str]:
        """Give server-sent events as the pieces come; a failure is the last of them.

        Args:
            event: the first one.
        """
        yield self._chunk({"role": "assistant", "content": ""})
        try:
            while isinstance(event, Piece):
                yield self._chunk({"content": event.text})
                event = await self.next()
        except Refused as refused:
            yield _sent(refused.to_json())
            return
        yield self._chunk({}, event.reason)
        if self._wanted.stream_usage:
            yield _sent({**self._about, "object": "chat.completion.chunk", "choices": [], "usage": _usage(event)})
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return _sent({**self._about, "object": "chat.completion.chunk", "choices": [choice]})


def _sent(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data)}\n\n"


def _usage(finished: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.new_tokens,
        "total_tokens": finished.prompt_tokens + finished.new_tokens,
        "prompt_tokens_details": {"cached_tokens": finished.cached_tokens},
    }
