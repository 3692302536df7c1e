"""`out=`: every upsampler writes its result into a tensor of the caller's, and says what does not fit."""

import pytest
import torch

from resfu import UPSAMPLERS, create_upsampler
from resfu.ops import reassemble
from resfu.ops.destination import check_destination


def inputs(name):
    torch.manual_seed(0)
    up = create_upsampler(name, channels=8, guidance_channels=32, scale_factor=2)
    guidance = torch.randn(2, up.guidance_channels, 12, 16) if up.guided else None
    return up.eval(), torch.randn(2, 8, 6, 8), guidance


@pytest.mark.parametrize("name", UPSAMPLERS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_every_upsampler_fills_it(name, layout):
    up, x, y = inputs(name)
    out = torch.full((2, 8, 12, 16), float("nan")).contiguous(memory_format=layout)
    with torch.no_grad():
        want = up(x, y, size=(12, 16))
        assert up(x, y, size=(12, 16), out=out) is out
    torch.testing.assert_close(out, want)
    assert out.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("name", ["resfu", "bilinear"])
def test_what_does_not_fit(name):
    up, x, y = inputs(name)
    with torch.no_grad(), pytest.raises(ValueError, match=r"out must be torch.float32 \[2, 8, 12, 16\] on cpu, got"):
        up(x, y, size=(12, 16), out=torch.empty(2, 8, 12, 15))
    with torch.no_grad(), pytest.raises(ValueError, match=r"got torch.float64"):
        up(x, y, size=(12, 16), out=torch.empty(2, 8, 12, 16, dtype=torch.float64))
    with pytest.raises(ValueError, match="out must be a tensor, got str"):  # users have no type checks
        getattr(check_destination, "__wrapped__", check_destination)("x", (1,), x)
    with torch.no_grad(), pytest.raises(ValueError, match="got an expanded tensor"):
        up(x, y, size=(12, 16), out=torch.empty(2, 8, 12, 1).expand(-1, -1, -1, 16))
    with pytest.raises(ValueError, match="out= has no gradients"):
        up(x.requires_grad_(), y, size=(12, 16), out=torch.empty(2, 8, 12, 16))


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference"])
@pytest.mark.parametrize("neighbours", ["fine", "coarse"])
def test_reassemble(backend, neighbours):
    x, scores = torch.randn(1, 5, 4, 6), torch.randn(1, 9, 8, 12)
    out = torch.empty(1, 5, 8, 12)
    got = reassemble(x, scores, neighbours=neighbours, softmax=True, backend=backend, out=out)
    assert got is out
    torch.testing.assert_close(out, reassemble(x, scores, neighbours=neighbours, softmax=True, backend="reference"))


def test_memory_of_an_input_is_refused():
    up, x = (
        create_upsampler("sapa", channels=8, guidance_channels=8, start="bilinear").eval(),
        torch.randn(1, 8, 16, 16),
    )
    both = torch.randn(1, 16, 16, 16)
    with torch.no_grad():
        with pytest.raises(ValueError, match="out shares memory with an input"):
            up(x, torch.randn(1, 8, 16, 16), out=x)
        up(both[:, :8], torch.randn(1, 8, 16, 16), out=both[:, 8:])  # the same storage, but apart
