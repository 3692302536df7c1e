import itertools

import pytest
import torch
from torch.utils.data import Dataset

from resfu.training.loader import ResumableLoader, SeededDataset, ShardSampler, StreamSampler, derive_seed


class Noisy(Dataset):
    """Each item: its number and what the augmentation drew."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(torch.rand(()))


def loader(batch_size=2, workers=0, seed=5, rank=0, world=1):
    sampler = StreamSampler(7, batch_size, seed, rank, world)
    return ResumableLoader(SeededDataset(Noisy(), seed), sampler, workers, collate=list)


def epochs(source, count):
    return [list(source) for _ in range(count)]


def test_an_epoch_holds_every_image_at_most_once_and_the_next_is_another():
    first, second = epochs(loader(), 2)
    assert len(first) == len(second) == 3
    for epoch in (first, second):
        images = [index for batch in epoch for index, _ in batch]
        assert len(set(images)) == len(images) == 6
    assert [index for index, _ in first[0]] != [index for index, _ in second[0]]
    assert epochs(loader(seed=6), 1) != [first]


def test_every_image_is_drawn_anew_in_every_epoch():
    drawn = {}
    for number, epoch in enumerate(epochs(loader(), 3)):
        for index, value in itertools.chain(*epoch):
            drawn.setdefault(index, {})[number] = value
    assert all(len(set(values.values())) == len(values) for values in drawn.values())


def test_workers_change_nothing():
    assert epochs(loader(workers=2), 2) == epochs(loader(), 2)


def test_the_state_of_the_program_is_neither_read_nor_changed():
    torch.manual_seed(1)
    first = epochs(loader(), 1)
    after = torch.rand(3)
    torch.manual_seed(1)
    torch.testing.assert_close(torch.rand(3), after, rtol=0, atol=0)
    torch.manual_seed(2)
    assert epochs(loader(), 1) == first


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("done", range(1, 8))
def test_a_loader_goes_on_where_another_stopped(done, workers):
    endless = [batch for epoch in epochs(loader(), 4) for batch in epoch]
    one = loader()
    served = list(itertools.islice((batch for _ in range(3) for batch in one), done))
    assert served == endless[:done]
    other = loader(workers=workers)
    other.load_state_dict(one.state_dict())
    assert list(other) == endless[done : done + 3]


def test_an_iterator_that_is_made_and_left_costs_nothing():
    one = loader()
    iter(one)
    next(iter(one))
    assert one.state_dict() == {"served": 1}


def test_two_processes_share_the_batch_of_one():
    whole = epochs(loader(batch_size=2), 2)
    parts = [epochs(loader(batch_size=1, rank=rank, world=2), 2) for rank in range(2)]
    for epoch in range(2):
        joined = [a + b for a, b in zip(parts[0][epoch], parts[1][epoch], strict=True)]
        assert joined == whole[epoch]


@pytest.mark.parametrize(("length", "world"), [(7, 2), (7, 3), (4, 4), (5, 1)])
def test_shards_hold_every_image_once(length, world):
    shards = [list(ShardSampler(length, rank, world)) for rank in range(world)]
    assert sorted(itertools.chain(*shards)) == list(range(length))
    assert [len(ShardSampler(length, rank, world)) for rank in range(world)] == [len(shard) for shard in shards]


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match=r"\(7\) are fewer than batch_size x processes \(4 x 2\): lower batch_size"):
        StreamSampler(7, 4, seed=0, rank=0, world=2)
    with pytest.raises(ValueError, match=r"more processes \(2\) than images \(1\)"):
        ShardSampler(1, 0, 2)


def test_seeds_are_apart_and_always_the_same():
    seeds = {derive_seed(a, b, c) for a in range(8) for b in range(8) for c in range(8)}
    assert len(seeds) == 512
    assert all(0 <= seed < 2**63 for seed in seeds)
    # What a seed stands for must stay the same from one version to the next.
    assert derive_seed(0, 1, 2) == 5458876493991123480
