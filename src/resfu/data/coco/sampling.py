"""Which images share a batch."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from torch.utils.data import DistributedSampler


class AspectRatioSampler(DistributedSampler[Any]):
    """Keys (epoch, index) in batches of either portrait or landscape images, which need little padding.

    The images of every epoch are shuffled and dealt into two buckets. A bucket with enough images for all processes
    becomes a batch. The images left at the end of an epoch stay for the next one, so all are seen equally often.
    Batch p holds the same images for any number of processes: process r of n takes the r-th of its n parts. Lightning
    does not replace a DistributedSampler by its own.

    Args:
        sizes: (H, W) of each image.
        batch_size: images per process and step; that many consecutive keys are a batch.
        seed: seed of the run.
        rank: this process.
        world: number of processes.

    Raises:
        ValueError: if the images do not fill one batch.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], batch_size: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        if len(sizes) < batch_size * world:
            raise ValueError(
                f"the training split has {len(sizes)} images, fewer than batch_size x processes "
                f"({batch_size} x {world}): lower batch_size."
            )
        super().__init__(range(len(sizes)), num_replicas=world, rank=rank, seed=seed, drop_last=True)  # pyright: ignore[reportArgumentType]
        self.upright = [height > width for height, width in sizes]
        self.batch_size = batch_size
        self.batches = len(sizes) // (batch_size * world)
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        """The keys of one epoch's number of batches, from batch `position` (counted over all epochs) on."""
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
        """Do nothing: `position` determines the epoch, even in the middle of one."""
