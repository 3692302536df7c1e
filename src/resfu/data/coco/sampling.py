"""Which images share a batch."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


class AspectRatioSampler(DistributedSampler[Any]):
    """Keys (epoch, index) whose batches hold either upright or lying images, so that little of a batch is padding.

    The images of every epoch are shuffled and dealt into two buckets; a bucket that holds a batch for all processes is
    one. What remains at the end of an epoch goes on into the next one, so that no image is seen more often than
    another. Batch p is the same set of images for any number of processes that share it: process r of n takes the r-th
    of its n parts. Being a DistributedSampler tells Lightning not to put its own in this place.

    Args:
        sizes: (H, W) of each image.
        batch_size: images per process and step; each run of that many keys is a batch.
        seed: of the run.
        rank: this process.
        world: number of processes.

    Raises:
        ValueError: when the images do not fill one batch.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        if len(sizes) < batch_size * world:
            raise ValueError(
                f"the images of the training split ({len(sizes)}) are fewer than batch_size x processes "
                f"({batch_size} x {world}): lower batch_size."
            )
        super().__init__(range(len(sizes)), num_replicas=world, rank=rank, seed=seed, drop_last=True)  # pyright: ignore[reportArgumentType]
        self.upright = [height > width for height, width in sizes]
        self.batch_size = batch_size
        self.batches = len(sizes) // (batch_size * world)
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        """Keys of as many batches as an epoch has, from `position` (batches since the beginning) on."""
        start = self.rank * self.batch_size
        for shared in itertools.islice(self._shared_batches(), self.position, self.position + self.batches):
            yield from shared[start : start + self.batch_size]

    def _shared_batches(self) -> Iterator[list[tuple[int, int]]]:
        buckets: tuple[list[tuple[int, int]], ...] = ([], [])
        for epoch in itertools.count():
            for index in np.random.default_rng([self.seed, epoch]).permutation(len(self.upright)).tolist():
                bucket = buckets[self.upright[index]]
                bucket.append((epoch, index))
                if len(bucket) == self.batch_size * self.num_replicas:
                    yield bucket.copy()
                    bucket.clear()

    def __len__(self) -> int:
        """Keys of a full pass for this process."""
        return self.batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the position says which epoch it is, also in the middle of one."""
