"""Errors: those of a request, as OpenAI's API gives them, and those before there is any."""

from __future__ import annotations

from typing import Any


class Refused(Exception):
    """A request that can't be answered.

    Attributes:
        status: of HTTP.
        param: the field of the request that is wrong.
        code: OpenAI's word for it, where there is one.
    """

    def __init__(self, status: int, why: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(why)
        self.status = status
        self.param = param
        self.code = code

    def to_json(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


class Unusable(Exception):
    """A folder that can't be loaded, or an address that can't be served on."""
