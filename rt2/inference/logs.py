"""Logs as JSON, one line an event: nothing that a client writes can forge another line."""

from __future__ import annotations

import json
import logging
import sys
import time

MAX_LINE = 8000  # characters of a message or a traceback


class JsonLines(logging.Formatter):
    """A log record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII: time, level, logger, message and, if there is one, the traceback."""
        row = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:MAX_LINE],
        }
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)[-MAX_LINE:]
        return json.dumps(row)


def log_json() -> None:
    """Logs go to standard error; one that cannot be written, on a full disk, is lost."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("rt2").setLevel(logging.INFO)
    logging.raiseExceptions = False
