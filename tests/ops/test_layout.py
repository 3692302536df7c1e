"""Padding against PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from resfu.ops.layout import PADDINGS, pad


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(("rows", "columns"), [(0, 0), (1, 2), (4, 0), (3, 6)])
@pytest.mark.parametrize("last", [False, True])
def test_equals_pytorch_forward_and_backward(padding, rows, columns, last):
    x = torch.randn(2, 3, 5, 7, dtype=torch.double, requires_grad=True)
    if last:
        x = x.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    mode = "constant" if padding == "zero" else padding
    want, got = F.pad(x, (columns, columns, rows, rows), mode=mode), pad(x, rows, columns, padding)
    assert torch.equal(got, want)
    grad = torch.randn_like(want)
    torch.testing.assert_close(*(torch.autograd.grad(t, x, grad)[0] for t in (got, want)), rtol=1e-13, atol=1e-13)
    if last:
        assert got.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("padding", ["replicate", "reflect"])
def test_padding_keeps_no_map_for_its_gradients(padding):
    x = torch.randn(1, 2, 4, 5, dtype=torch.double, requires_grad=True)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        got = pad(x, 2, 1, padding)
    assert not saved
    assert torch.equal(got, F.pad(x, (1, 1, 2, 2), mode=padding))
    assert torch.autograd.gradcheck(lambda x: pad(x, 2, 1, padding), x)
    assert torch.autograd.gradgradcheck(lambda x: pad(x, 2, 1, padding), x)
