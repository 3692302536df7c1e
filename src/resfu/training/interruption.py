"""Handling of signals (Ctrl-C, SIGTERM) during a training."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn Lightning's SystemExit on Ctrl-C and SIGTERM into a KeyboardInterrupt, and restore the signal's handler."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)
