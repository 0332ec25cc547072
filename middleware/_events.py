"""Structured events, to structlog or to stdlib logging, whichever the application uses."""

import logging
from collections.abc import Callable
from typing import Any, Protocol, cast

import structlog

# What a record has of its own, which no field may replace.
_OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class EventLogger(Protocol):
    """What is needed of a logger: structlog's bound loggers have it."""

    def log(self, level: int, event: str, **fields: Any) -> Any:
        """Record *event* with *fields*."""


class EventLog:
    """Sends events to the application's logging, and never configures it.

    The choice falls at the first event, not at import: a logger that was given wins; else structlog where
    the application configured it; else the stdlib logger ``apiclient``, with the fields as ``extra``.

    Args:
        logger: A structlog or stdlib logger, or None for the choice above.

    Attributes:
        enabled: Given a ``logging`` level, returns whether an event of it would be seen.
    """

    __slots__ = ("_given", "_logger", "_stdlib", "enabled")

    def __init__(self, logger: Any = None) -> None:
        self._given = logger
        self._logger: Any = None
        self._stdlib = False
        # Replaced by the logger's own at the first question: it is asked on every request, and each frame costs.
        self.enabled: Callable[[int], bool] = self._first

    def __repr__(self) -> str:
        return f"EventLog({self._given!r})" if self._given is not None else "EventLog()"

    def emit(self, level: int, event: str, **fields: Any) -> None:
        """Record *event* at *level* (a ``logging`` constant) with *fields*, if anybody listens."""
        if self.enabled(level):
            self.write(level, event, fields)

    def write(self, level: int, event: str, fields: dict[str, Any]) -> None:
        """Record *event* with *fields*; ``enabled`` has been asked about *level*, and said yes."""
        logger = self._logger
        if not self._stdlib:
            logger.log(level, event, **fields)
            return
        # Given to ``makeRecord`` each field is compared with all that a record has of its own, one after another;
        # only where one has such a name is that left to it, to be refused. Looking for the caller's line would cost
        # more than the record, and find this file.
        extra = None if _OWN.isdisjoint(fields) else fields
        record = logger.makeRecord(logger.name, level, "apiclient", 0, event, (), None, None, extra)
        record.__dict__.update(fields)
        logger.handle(record)

    def _first(self, level: int) -> bool:
        logger: Any = self._given
        if logger is None and structlog.is_configured():
            logger = structlog.get_logger("apiclient")
        if logger is None:
            logger = logging.getLogger("apiclient")
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
        self._stdlib = isinstance(logger, logging.Logger)
        if not self._stdlib and hasattr(logger, "bind"):
            logger = logger.bind()
        self._logger = logger
        # Asked of the class: a logger of structlog's that proxies would take the question for an event.
        kind = cast("Any", type(logger))
        for name in ("is_enabled_for", "isEnabledFor"):
            if hasattr(kind, name):
                self.enabled = getattr(logger, name)
                break
        else:
            self.enabled = _always
        return bool(self.enabled(level))


def _always(_level: int) -> bool:
    return True


DEFAULT_LOG = EventLog()
