"""The compiled sums at ratio 2, whose tiles overlap and whose results may be stored past the cache."""

import pytest
import torch

from resfu.ops import backends, reassemble
from resfu.ops.compiled import threads
from resfu.ops.reassembly import numba_doubled

pytestmark = pytest.mark.skipif(not backends._NUMBA_INSTALLED, reason="needs the extra fast (numba)")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def assert_same_sums(features, weights, **options):
    assert numba_doubled.takes(*features.shape[1:], *weights.shape[-2:])
    got = reassemble(features, weights, neighbours="coarse", backend="numba", **options)
    options.pop("out", None)
    want = reassemble(features.double(), weights.double(), neighbours="coarse", backend="reference", **options)
    assert (got - want).abs().max() <= 2e-6 * want.abs().max()


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize(
    ("channels", "low", "K"), [(4, (3, 16), 3), (9, (5, 17), 5), (5, (4, 150), 5), (6, (9, 33), 7)]
)
def test_sums_of_doubled_pixels(channels, low, K, softmax):
    features, weights = torch.randn(2, channels, *low), torch.randn(2, K * K, 2 * low[0], 2 * low[1])
    assert_same_sums(features, weights, softmax=softmax)
    assert_same_sums(features, weights.contiguous(memory_format=torch.channels_last), softmax=softmax)


@pytest.mark.parametrize("padding", ["replicate", "reflect", "shift"])
def test_other_padding(padding):
    assert_same_sums(torch.randn(1, 4, 6, 18), torch.randn(1, 25, 12, 36), padding=padding)


def test_what_is_stored_past_the_cache(monkeypatch):
    monkeypatch.setattr(threads, "_LARGE", 0)
    for columns in (16, 24, 40, 17):  # the last is not aligned
        assert_same_sums(torch.randn(1, 6, 5, columns), torch.randn(1, 25, 10, 2 * columns))
    features, weights = torch.randn(1, 4, 3, 16), torch.randn(1, 9, 6, 32)
    memory = torch.zeros(4 * 6 * 32 + 2)
    aligned = next(i for i in range(2) if memory[i:].data_ptr() % 64)
    out = memory[aligned : aligned + 4 * 6 * 32].view(1, 4, 6, 32)
    assert_same_sums(features, weights, out=out)


def test_a_value_that_is_not_finite_stays_in_its_windows():
    features, weights = torch.randn(1, 4, 5, 20), torch.randn(1, 9, 10, 40)
    features[0, 1, 2, 10] = float("nan")
    out = reassemble(features, weights, neighbours="coarse", backend="numba")
    found = out.isnan()
    assert found[0, 1, 2:8, 18:24].all()
    assert found.sum() == 36


def test_narrow_maps_and_few_channels_take_the_other_kernel():
    for channels, columns in ((3, 16), (4, 15)):
        features, weights = torch.randn(1, channels, 3, columns), torch.randn(1, 9, 6, 2 * columns)
        assert not numba_doubled.takes(*features.shape[1:], *weights.shape[-2:])
        got = reassemble(features, weights, neighbours="coarse", backend="numba")
        torch.testing.assert_close(got, reassemble(features, weights, neighbours="coarse", backend="reference"))


@pytest.mark.parametrize("high", [(12, 32), (9, 48), (9, 50)])
def test_sums_between_centres_stored_past_the_cache(high, monkeypatch):
    features, scores = torch.randn(2, 11, 3, 8), torch.randn(2, 9, *high)
    want = reassemble(features, scores, softmax=True, mask=True, backend="numba")
    monkeypatch.setattr(threads, "_LARGE", 0)
    assert torch.equal(reassemble(features, scores, softmax=True, mask=True, backend="numba"), want)
