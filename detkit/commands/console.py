"""What detkit logs while a command runs, as its user reads it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class ConsoleHandler(logging.Handler):
    """Writes bare messages to what stdout is at that moment, warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout, flush=True)


@contextmanager
def logged_to_console() -> Iterator[None]:
    """Inside the block what detkit logs is told; after it detkit is as silent as before."""
    logger, handler = logging.getLogger("detkit"), ConsoleHandler()
    level, propagate = logger.level, logger.propagate
    for name, known in logging.root.manager.loggerDict.items():
        if isinstance(known, logging.Logger) and f"{name}.".startswith("detkit."):
            known.disabled = False  # Hydra disables all that there are where it starts a job
    if any(isinstance(known, ConsoleHandler) for known in logger.handlers):  # a command within a command
        yield
        return
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
