"""A training loader whose order and augmentation depend on the seed and the position alone, so that it can resume."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


def derive_seed(*numbers: int) -> int:
    """One well-mixed 63-bit seed out of several numbers, the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SeededDataset(Dataset[Any]):
    """Items whose random augmentation is a function of (seed, epoch, index), whichever process makes them.

    Args:
        dataset: what is augmented; its randomness comes from PyTorch's CPU generator.
        seed: of the run.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The item of a key (epoch, index)."""
        epoch, index = key
        # The generator of the calling process is left as it was: the network draws from it too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(self.seed, epoch, index))
            return self.dataset[index]


class TrainingOrder(Protocol):
    """The order of a training: keys (epoch, index) of one epoch's batches, from the batch at `position` on.

    A task whose batches are not any images together, such as those of objects, brings its own.

    Attributes:
        batch_size: keys of a batch, in this process.
        position: batches since the beginning of the training.
    """

    batch_size: int
    position: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The keys."""
        ...

    def __len__(self) -> int:
        """How many keys an epoch has in this process."""
        ...


class StreamSampler(DistributedSampler[Any]):
    """Keys (epoch, index) of a stream of shuffled epochs, from the batch at `position` on.

    Batch p is the same set of images for any number of processes that share it: process r of n takes the r-th of its n
    parts. Being a DistributedSampler tells Lightning not to put its own in this place.

    Args:
        length: number of images.
        batch_size: images per process and step.
        seed: of the run.
        rank: this process.
        world: number of processes.

    Raises:
        ValueError: when the images do not fill one batch.
    """

    def __init__(self, length: int, batch_size: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if length < batch_size * world:
            raise ValueError(
                f"the images of the training split ({length}) are fewer than batch_size x processes "
                f"({batch_size} x {world}): lower batch_size."
            )
        super().__init__(range(length), num_replicas=world, rank=rank, seed=seed, drop_last=True)  # pyright: ignore[reportArgumentType]
        self.length = length
        self.batch_size = batch_size
        self.batches = length // (batch_size * world)
        self.position = 0

    def __iter__(self) -> Iterator[Any]:
        """Keys of as many batches as an epoch has, from `position` (batches since the beginning) on."""
        order, shuffled = torch.empty(0), None
        for batch in range(self.position, self.position + self.batches):
            epoch, within = divmod(batch, self.batches)
            if epoch != shuffled:
                generator = torch.Generator().manual_seed(derive_seed(self.seed, epoch))
                order, shuffled = torch.randperm(self.length, generator=generator), epoch
            start = (within * self.num_replicas + self.rank) * self.batch_size
            for index in order[start : start + self.batch_size].tolist():
                yield epoch, index

    def __len__(self) -> int:
        """Keys of a full pass for this process."""
        return self.batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Nothing: the position says which epoch it is, also in the middle of one."""


class ShardSampler(DistributedSampler[Any]):
    """Every image once, in order, dealt out to the processes; none is repeated to even them out.

    Args:
        length: number of images.
        rank: this process.
        world: number of processes.

    Raises:
        ValueError: when a process would get no image: it would wait for the others forever.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        if length < world:
            raise ValueError(f"more processes ({world}) than images ({length}): use fewer of these.")
        super().__init__(range(length), num_replicas=world, rank=rank, shuffle=False)  # pyright: ignore[reportArgumentType]
        self.places = range(rank, length, world)

    def __iter__(self) -> Iterator[Any]:
        """The places of this process's images."""
        return iter(self.places)

    def __len__(self) -> int:
        """How many images this process has."""
        return len(self.places)


class ResumableLoader(DataLoader[Any]):
    """A loader that goes on at the batch where a checkpoint was taken, in the middle of an epoch too.

    Lightning saves and restores it through `state_dict` and `load_state_dict`.

    Args:
        dataset: items by key (epoch, index).
        sampler: the order.
        num_workers: processes that load; 0 loads in this one. The batches do not depend on it.
        collate: makes a batch of a list of items.
    """

    def __init__(
        self,
        dataset: SeededDataset,
        sampler: TrainingOrder,
        num_workers: int,
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__(
            dataset,
            batch_size=sampler.batch_size,
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=collate,
            drop_last=True,
            # Its own, for the seeds of workers: what it draws must not move the program's generator.
            generator=torch.Generator(),
            persistent_workers=num_workers > 0,
        )
        self.stream = sampler
        self.served = 0

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The batches that come after those already served."""
        self.stream.position = self.served
        for batch in super().__iter__():
            # Counted when handed over, not when a worker prefetches it.
            self.served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """How many batches have been served since the beginning of the training."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on after the batches that a state counts."""
        self.served = state["served"]
