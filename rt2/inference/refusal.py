"""What a client is told when it gets no action: one word that programs read, a text for people."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

MAX_MESSAGE = 500  # characters

CODES = {
    "bad_request": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "forbidden": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "too_slow": HTTPStatus.REQUEST_TIMEOUT,
    "conflict": HTTPStatus.CONFLICT,  # a replayed number, an arm that another client has
    "superseded": HTTPStatus.CONFLICT,  # by a newer observation of the same client
    "hold": HTTPStatus.CONFLICT,  # the model meant to say something else than an action
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "busy": HTTPStatus.TOO_MANY_REQUESTS,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,  # the model starts, or starts again
    "going_away": HTTPStatus.SERVICE_UNAVAILABLE,
    "deadline": HTTPStatus.GATEWAY_TIMEOUT,
}


class Refusal(Exception):
    """No action, and why. `retry_after` is in seconds, `about` the id that the client gave."""

    def __init__(
        self, code: str, message: str, retry_after: float | None = None, about: str | None = None
    ):
        short = message if len(message) <= MAX_MESSAGE else message[: MAX_MESSAGE - 3] + "..."
        super().__init__(f"{code}: {short}")
        self.code, self.message, self.retry_after, self.about = code, short, retry_after, about

    @property
    def status(self) -> HTTPStatus:
        """The HTTP status of the code."""
        return CODES[self.code]

    def text(self) -> str:
        """A JSON object on one line: code, message, retry_after, id."""
        told: dict[str, Any] = {"code": self.code, "message": self.message}
        return json.dumps(told | {"retry_after": self.retry_after, "id": self.about})
