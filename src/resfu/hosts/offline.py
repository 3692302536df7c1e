"""No waiting for a hub that is out of reach."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

_PATIENCE = 3.0  # seconds


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Take files from the cache alone while the Hugging Face hub does not answer.

    Without a network huggingface_hub asks for every file six times, with pauses: for well over a minute in all.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers() -> bool:
    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # of httpx or requests, whichever this version of huggingface_hub stands on
        return False
    return True
