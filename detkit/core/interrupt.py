"""Handle signals that ask a process to end: at once, or after the current step."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
ONE_PRESS = 1.0  # seconds within which the same wish may come twice: from the terminal, and from torchrun or timeout


class Interrupted(KeyboardInterrupt):
    """The process is to end, by signal `number`; as a shell says it, with exit code 128 + number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        return 128 + self.number


class Agreed(Interrupted):
    """All processes of a training end here, after the same step."""


class Asked:
    """Whether the process has been asked to end. number: of the first signal, 0 for none."""

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __bool__(self) -> bool:
        return self.number != 0

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > ONE_PRESS:
            raise Interrupted(number)


@contextmanager
def answered_at_once() -> Iterator[None]:
    """Inside the block a signal raises Interrupted."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    with _handled_by(end):
        yield


@contextmanager
def answered_later() -> Iterator[Asked]:
    """Inside the block a signal is only noted, for whoever looks; a second one, later, raises Interrupted."""
    asked = Asked()
    with _handled_by(asked._hear):
        yield asked


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Signals that are ignored, as under nohup, stay so. Threads other than the main one cannot handle any."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: old for number, old in before.items() if old not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def leave_to_parent() -> None:
    """Make this child process outlive signals sent to the whole group, so that its parent can finish its work.

    It still ends when the parent terminates it.
    """
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # who sent a signal is only told to those who wait for it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
