"""Ctrl-C and SIGTERM: the first asks the sweep to stop and stay resumable, the second ends it."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """A wish to stop, raised by a signal, by an error, or by a caller.

    Handlers of the wish run in a thread of their own, because a signal can arrive while the main
    thread holds any lock.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.reason = ""
        """Why, for people."""

    @property
    def raised(self) -> bool:
        return self._event.is_set()

    def raise_(self, reason: str) -> None:
        """Asks for the stop; a second call changes nothing."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @contextmanager
    def calling(self, handler: Callable[[], None]) -> Iterator[None]:
        """Calls a handler if the wish is raised within the context."""
        done = threading.Event()

        def watch() -> None:
            self._event.wait()
            if not done.is_set():
                handler()

        threading.Thread(target=watch, daemon=True).start()
        try:
            yield
        finally:
            done.set()


@contextmanager
def on_signals(interrupt: Interrupt) -> Iterator[None]:
    """Lets SIGINT and SIGTERM raise the wish to stop; a second signal ends the process's work.

    Outside the main thread, where Python allows no handlers, nothing is changed.

    Raises:
        KeyboardInterrupt: A second signal came.
    """
    if not _may_handle():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        if interrupt.raised:
            raise KeyboardInterrupt
        interrupt.raise_(f"stopped by {signal.Signals(number).name}")

    with keeping_handlers():
        for number in _SIGNALS:
            signal.signal(number, handle)
        yield


@contextmanager
def keeping_handlers() -> Iterator[None]:
    """Puts back the handlers of SIGINT and SIGTERM that are replaced within the context."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None and _may_handle():
                signal.signal(number, handler)


def _may_handle() -> bool:
    return threading.current_thread() is threading.main_thread()
