"""Structured events, to structlog or to stdlib logging, whichever the application uses."""

import logging
from typing import Any, Protocol

import structlog


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
    """

    __slots__ = ("_enabled", "_given", "_logger", "_stdlib")

    def __init__(self, logger: Any = None) -> None:
        self._given = logger
        self._logger: Any = None
        self._stdlib = False
        self._enabled: Any = None

    def __repr__(self) -> str:
        return f"EventLog({self._given!r})" if self._given is not None else "EventLog()"

    def enabled(self, level: int) -> bool:
        """Return whether an event of *level* would be seen."""
        if self._enabled is None:
            self._bind()
        return bool(self._enabled(level))

    def emit(self, level: int, event: str, **fields: Any) -> None:
        """Record *event* at *level* (a ``logging`` constant) with *fields*, if anybody listens."""
        if not self.enabled(level):
            return
        logger = self._logger
        if self._stdlib:
            # Looking for the caller's line would cost more than the record, and find this file.
            logger.handle(logger.makeRecord(logger.name, level, "apiclient", 0, event, (), None, None, fields))
        else:
            logger.log(level, event, **fields)

    def _bind(self) -> None:
        logger = self._given
        if logger is None and structlog.is_configured():
            logger = structlog.get_logger("apiclient")
        if logger is None:
            logger = logging.getLogger("apiclient")
            if not logger.handlers:
                logger.addHandler(logging.NullHandler())
        self._stdlib = isinstance(logger, logging.Logger)
        if self._stdlib:
            self._logger, self._enabled = logger, logger.isEnabledFor
        else:
            self._logger = logger.bind() if hasattr(logger, "bind") else logger
            self._enabled = getattr(self._logger, "is_enabled_for", _always)


def _always(_level: int) -> bool:
    return True


DEFAULT_LOG = EventLog()
