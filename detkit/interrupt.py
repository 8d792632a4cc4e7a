"""Signals that end a command: told apart, and waited for where something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C, what `kill` and a scheduler send, and a terminal that goes away
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """The end that a signal asks for; `code` is the exit code that says so, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.code = 128 + number


class Deferred:
    """What arrived while signals waited: `number` of the first, None if there was none."""

    number: int | None = None


@contextmanager
def raising() -> Iterator[None]:
    """Raise Interrupted where a signal arrives, inside the block."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handlers(handle):
        yield


@contextmanager
def deferred() -> Iterator[Deferred]:
    """Note the first signal that arrives inside the block, and raise Interrupted for the second."""
    waiting = Deferred()

    def handle(number: int, frame: FrameType | None) -> None:
        if waiting.number is not None:
            raise Interrupted(number)
        waiting.number = number

    with _handlers(handle):
        yield waiting


def ignore_in_worker() -> None:
    """Leave Ctrl-C and a closed terminal to the process that started this one, which ends it in order."""
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def _handlers(handle: object) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers, and gets signals
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:  # nohup
            signal.signal(number, handle)  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)
