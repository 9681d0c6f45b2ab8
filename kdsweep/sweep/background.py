"""Work that passes while Ray starts."""

import threading
from collections.abc import Callable
from typing import Any

from kdsweep.errors import KdsweepError


class Background:
    """A call in a thread of its own, whose error appears where its result is wanted."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call()
        except (KdsweepError, OSError, ImportError) as error:
            self._error = error

    def result(self) -> None:
        """Waits for the end.

        Raises:
            Exception: What the call raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
