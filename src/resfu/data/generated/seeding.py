"""Random numbers that depend on the sample alone, not on the order or process that makes it."""

from enum import IntEnum

import numpy as np

SPLITS = ("train", "val", "test")
LARGEST_SEED = 2**63


class Stream(IntEnum):
    """Independent random streams of a sample: draws for the look must not change the geometry."""

    GEOMETRY = 0
    MATERIAL = 1
    CAMERA = 2


def generator(seed: int, split: str, index: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of one sample.

    Args:
        seed: seed of the dataset, 0 or more.
        split: one of `SPLITS`.
        index: index of the sample.
        stream: the purpose of the numbers.

    Returns:
        A new generator; the same arguments give the same state.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index, stream])))


def check_sampling(name: str, split: str, count: int | None, seed: int) -> None:
    """Check the arguments that select the generated samples.

    Args:
        name: the name of the dataset, for messages.
        split: one of `SPLITS`.
        count: at least 1; None for the dataset's own number.
        seed: 0 to 2**63 - 1.

    Raises:
        ValueError: for an argument outside its range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r} of {name}; choose one of {', '.join(SPLITS)}.")
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, got {count}.")
    if not 0 <= seed < LARGEST_SEED:
        raise ValueError(f"seed must be 0 to {LARGEST_SEED - 1}, got {seed}.")
