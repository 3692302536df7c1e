"""A resumable training loader: order and augmentation depend only on the seed and the position in the training."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler


def derive_seed(*numbers: int) -> int:
    """Hash several numbers to a 63-bit seed, which is the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class SeededDataset(Dataset[Any]):
    """A data set whose random augmentation is a function of (seed, epoch, index), in whichever process it runs.

    Args:
        dataset: the data set; its randomness comes from PyTorch's CPU generator.
        seed: seed of the run.
    """

    def __init__(self, dataset: Dataset[Any], seed: int) -> None:
        self.dataset = dataset
        self.seed = seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The item for a key (epoch, index)."""
        epoch, index = key
        # The state of the calling process's generator is restored, because the network draws from it too.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(derive_seed(self.seed, epoch, index))
            return self.dataset[index]


class TrainingOrder(Protocol):
    """The order of a training: the keys (epoch, index) of an epoch's batches, starting with the batch at `position`.

    A task has an order of its own if not all images may share a batch, as for objects.

    Attributes:
        batch_size: number of keys in a batch of this process.
        position: number of batches since the beginning of the training.
    """

    batch_size: int
    position: int

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The keys."""
        ...

    def __len__(self) -> int:
        """The number of keys of an epoch in this process."""
        ...


class StreamSampler(DistributedSampler[Any]):
    """The keys (epoch, index) of a stream of shuffled epochs, starting with the batch at `position`.

    With the same total batch size, a batch has the same images for any number of processes: process r of n takes the
    r-th of n parts. It is a DistributedSampler so that Lightning does not replace it by its own.

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
        """Yield the keys of as many batches as an epoch has, starting with the batch at `position`."""
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
        """The number of keys of an epoch in this process."""
        return self.batches * self.batch_size

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the position determines the epoch."""


class ShardSampler(DistributedSampler[Any]):
    """Every image once, in order, divided among the processes; no image is repeated.

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
        """The indices of this process's images."""
        return iter(self.places)

    def __len__(self) -> int:
        """The number of images of this process."""
        return len(self.places)


class ResumableLoader(DataLoader[Any]):
    """A loader that continues at the batch where a checkpoint was saved, also in the middle of an epoch.

    Lightning saves and restores its state through `state_dict` and `load_state_dict`.

    Args:
        dataset: a data set with keys (epoch, index).
        sampler: the order of the training.
        num_workers: number of processes that load data; 0 loads in this process. The batches do not depend on it.
        collate: function that makes a batch of a list of items.
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
            # A separate generator for the workers' seeds, so that these do not change the state of the global one.
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
        """The number of batches served since the beginning of the training."""
        return {"served": self.served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the number of batches in a state."""
        self.served = state["served"]
