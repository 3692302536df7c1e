"""Avoid waiting for the Hugging Face hub when it cannot be reached."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub import constants, get_session

_PATIENCE = 3.0  # seconds


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """A context in which files only come from the cache if the Hugging Face hub does not answer.

    Without a network, huggingface_hub requests every file six times with pauses, for well over a minute in all.
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
    except Exception:  # from httpx or requests, depending on the version of huggingface_hub
        return False
    return True
