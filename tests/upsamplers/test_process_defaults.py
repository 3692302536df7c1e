"""What a process sets for new tensors, and the mode of an earlier call, change no result."""

import inspect

import pytest
import torch

import resfu

BACKENDS = "auto", "cpu", "portable"
LOW, HIGH = (7, 11), (14, 22)  # of no other test: what depends on sizes is made here


@pytest.fixture
def other_defaults():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(before)


def gradients(up, x, guidance):
    x, guidance = x.clone().requires_grad_(), guidance.clone().requires_grad_()
    out = up(x, guidance)
    found = torch.autograd.grad(out.square().sum(), (x, guidance, *up.parameters()), allow_unused=True)
    return out.detach(), *(g for g in found if g is not None)


def cases():
    for name, method in resfu.UPSAMPLERS.items():
        choices = "backend" in inspect.signature(method.__init__).parameters
        yield from ((name, backend) for backend in (BACKENDS if choices else BACKENDS[:1]))


@pytest.mark.parametrize(("name", "backend"), list(cases()))
def test_default_dtype_and_device(name, backend, create, maps, request):
    up = create(name) if backend == "auto" else create(name, backend=backend)
    low = (LOW[0], LOW[1] + BACKENDS.index(backend))
    x, guidance = maps(up, low=low, high=(2 * low[0], 2 * low[1]))
    request.getfixturevalue("other_defaults")
    with torch.no_grad():
        found = up(x, guidance)
    trained = gradients(up, x, guidance)
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)
    with torch.no_grad():
        assert torch.equal(found, up(x, guidance))
    for one, other in zip(trained, gradients(up, x, guidance), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", resfu.UPSAMPLERS)
def test_training_after_inference(name, create, maps):
    up = create(name)
    x, guidance = maps(up, low=(LOW[0], 15), high=(HIGH[0], 30))
    with torch.inference_mode():
        expected = up(x, guidance)
    torch.testing.assert_close(gradients(up, x, guidance)[0], expected.clone(), atol=1e-4, rtol=1e-4)
    banded = resfu.checkpointed(up)
    torch.testing.assert_close(gradients(banded, x, guidance)[0], expected.clone(), atol=1e-4, rtol=1e-4)
