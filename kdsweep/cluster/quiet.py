"""Keeps what Ray's launcher prints off the terminal."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout


@contextmanager
def quietly() -> Iterator[io.StringIO]:
    """Gathers what is printed within the context."""
    said = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            yield said
    finally:
        logging.disable(before)
