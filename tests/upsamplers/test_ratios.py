"""What a real ratio costs beside the next whole one, in values written: a clock would depend on a busy machine."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import resfu

REAL = [name for name, method in resfu.UPSAMPLERS.items() if method.ratios == "any"]


class Written(TorchDispatchMode):
    """Adds up the elements of what operators return, except for views."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **kwargs or {})
        if not function.is_view:
            self.elements += sum(t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor))
        return out


def written(up, low, high, train):
    torch.manual_seed(0)
    x = torch.randn(1, 32, *low, requires_grad=train)
    y = torch.randn(1, 3 if up.image_guided else 32, *high, requires_grad=train)
    with torch.set_grad_enabled(train), Written() as count:
        out = up(x, y)
        if train:
            out.sum().backward()
    return count.elements


@pytest.mark.parametrize("train", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("name", REAL)
def test_a_real_ratio_costs_no_more_than_twice_the_next_whole_one(create, name, train):
    up = create(name, **{"naf": {"dim": 64}, "anyup": {"dim": 32}}.get(name, {}))
    for low, high, whole in (
        ((16, 12), (127, 95), (128, 96)),
        ((24, 24), (61, 65), (72, 72)),
        ((20, 20), (21, 22), (40, 40)),
    ):
        assert written(up, low, high, train) <= 2 * written(up, low, whole, train), (low, high)


@pytest.mark.parametrize("options", [{"kernel_size": 5}, {"similarity": "concat"}, {"neighbours": "coarse"}], ids=str)
def test_bands_without_gradients_repeat_no_work(create, options):
    up = create("resfu", **options)
    whole, real = (written(up, (16, 16), size, False) for size in ((256, 256), (250, 251)))
    assert real <= 2 * whole


@pytest.mark.parametrize("size", [(4097, 1), (1, 4097), (6145, 3)])
def test_nearest_reads_the_pixel_that_contains_the_pixel(size):
    low = tuple(min(P, 4095) for P in size)
    x = torch.arange(low[0] * low[1], dtype=torch.float64).view(1, 1, *low)
    rows, columns = (torch.arange(P) * p // P for P, p in zip(size, low, strict=True))
    assert torch.equal(resfu.Nearest()(x, size=size), x[:, :, rows][..., columns])
