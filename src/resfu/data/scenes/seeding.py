"""Random numbers that depend on the sample alone, not on the order or process in which it is made."""

from enum import IntEnum

import numpy as np

SPLITS = ("train", "val", "test")


class Stream(IntEnum):
    """Independent sequences of one sample: the geometry must not change with anything drawn for the look."""

    GEOMETRY = 0
    MATERIAL = 1
    CAMERA = 2


def generator(seed: int, split: str, index: int, stream: Stream) -> np.random.Generator:
    """The generator of one stream of one sample.

    Args:
        seed: of the dataset, 0 or more.
        split: one of `SPLITS`.
        index: of the sample.
        stream: what the numbers are for.

    Returns:
        A fresh generator, in the same state for the same arguments.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, SPLITS.index(split), index, stream])))
