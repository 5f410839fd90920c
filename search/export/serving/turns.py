"""Several answers at once from one model: one thread makes all of its calls, a step for each answer in turn.

Generators of ONNX Runtime GenAI are not made for several threads. Its Engine batches requests, but takes stop words and
seeds only with paged attention, which models for the CPU do not have.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass

from olivine.search.export.serving.chat_request import ChatRequest
from olivine.search.export.serving.errors import Refused
from olivine.search.export.serving.model import Finished, Model, Piece, Step

#: What becomes of an answer, in this order: pieces, and one of the others at its end.
Event = Piece | Finished | Refused


@dataclass(eq=False)
class Ticket:
    """A request in the queue or under way.

    Attributes:
        request: what is to be answered.
        tell: takes the events, in the model's thread.
        cancelled: nobody waits for the answer any more.
    """

    request: ChatRequest
    tell: Callable[[Event], object]
    cancelled: bool = False


class Turns:
    """Answers requests side by side, in the order in which they came where there are too many."""

    def __init__(self, model: Model, at_once: int, most_waiting: int) -> None:
        self._model = model
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._waiting: deque[Ticket] = deque()
        self._answering: dict[Ticket, Generator[Step, None, None]] = {}
        self._changed = threading.Condition()
        self._stopped = self._closing = False
        self._thread = threading.Thread(target=self._work, name="model")
        self._thread.start()

    def start(self, request: ChatRequest, tell: Callable[[Event], object]) -> Ticket:
        """Begin to answer, or wait for a place.

        Raises:
            Refused: when too many wait already, or the server stops.
        """
        ticket = Ticket(request, tell)
        with self._changed:
            if self._stopped:
                raise _stops()
            if len(self._waiting) >= self._most_waiting:
                raise Refused(503, f"{len(self._waiting)} requests are waiting already; come again later")
            self._waiting.append(ticket)
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Stop generating for a request after the step that is under way; one that has ended stays as it is."""
        with self._changed:
            ticket.cancelled = True
            if ticket in self._waiting:
                self._waiting.remove(ticket)

    def stop(self) -> None:
        """End all answers, those under way and those that wait, and begin no other."""
        with self._changed:
            self._stopped = True
            tickets = [*self._answering, *self._waiting]
            self._waiting.clear()
        for ticket in tickets:
            if not ticket.cancelled:
                _tell(ticket, _stops())
                ticket.cancelled = True

    def close(self) -> None:
        """Stop all answers and the thread."""
        self.stop()
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def counts(self) -> dict[str, int]:
        """Count requests under way and waiting, and the generators that hold memory for them or for a next turn."""
        with self._changed:
            counts = {"answering": len(self._answering), "waiting": len(self._waiting)}
        return {**counts, "generators": len(self._model.caches)}

    def _work(self) -> None:
        while self._admit():
            for ticket, steps in list(self._answering.items()):
                if not self._take_turn(ticket, steps):
                    steps.close()
                    with self._changed:
                        del self._answering[ticket]
        for steps in self._answering.values():
            steps.close()

    def _admit(self) -> bool:
        """Give free places to those that wait, and sleep where nobody does; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._waiting or self._answering)
            while self._waiting and len(self._answering) < self._at_once:
                ticket = self._waiting.popleft()
                self._answering[ticket] = self._model.answer(ticket.request)
            return not self._closing

    def _take_turn(self, ticket: Ticket, steps: Generator[Step, None, None]) -> bool:
        """Do one step of an answer; False where it has ended."""
        if ticket.cancelled:
            return False
        try:
            step = next(steps)
        except Refused as refused:
            return _tell(ticket, refused)
        except Exception as error:  # whatever fails, the other answers go on
            logging.getLogger(__name__).exception("an answer failed")
            return _tell(ticket, Refused(500, f"the model failed: {error}"))
        return step is None or _tell(ticket, step)


def _stops() -> Refused:
    return Refused(503, "the server stops")


def _tell(ticket: Ticket, event: Event) -> bool:
    """Tell an event to the one who waits, if somebody does still; False where no other is to follow."""
    if ticket.cancelled:
        return False
    try:
        ticket.tell(event)
    except RuntimeError:  # the event loop in which it was waited for has closed
        ticket.cancelled = True
    return isinstance(event, Piece) and not ticket.cancelled
