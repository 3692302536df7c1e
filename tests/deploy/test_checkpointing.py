"""Gradients of bands are those of the whole call."""

import pytest
import torch
from torch.func import functional_call

import resfu
from resfu.deploy import plan
from resfu.deploy.forms import FORMS
from tests.deploy.banded import SMALL, make


@pytest.fixture(autouse=True)
def _low_bands(monkeypatch):
    """As low as bands of large images are, of images that tests have time for."""
    monkeypatch.setattr(plan, "_LEAST", 1 << 16)


@pytest.mark.parametrize("name", list(FORMS))
def test_gradients_of_bands_are_those_of_the_whole_call(name):
    up, features, guidance, size = make(name, torch.float64, SMALL)
    inputs = [t.requires_grad_() for t in (features, guidance) if t is not None]
    wanted = [*inputs, *up.parameters()]
    grad = torch.randn(2, 16, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = up(features, guidance, size)
    expected = torch.autograd.grad(whole, wanted, grad, allow_unused=True)
    out = resfu.checkpointed(up)(features, guidance, size)
    torch.testing.assert_close(out, whole, atol=1e-9, rtol=1e-9)
    found = torch.autograd.grad(out, wanted, grad, allow_unused=True)
    rounding = 1e-6 if name == "stack-jbu" else 1e-8  # its Gaussian of the distance is fp32 by definition
    for ours, theirs in zip(found, expected, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=rounding)
        else:
            assert ours is None or not ours.any()


@pytest.mark.parametrize("name", ["naf", "resfu"])
def test_gradients_from_a_start_and_in_training(name):
    up, features, guidance, size = make(name, torch.float64, SMALL, **({"start": "bicubic"} if name == "resfu" else {}))
    features.requires_grad_()
    found = []
    for run in (up.train(), resfu.checkpointed(up)):
        torch.manual_seed(3)  # NAF draws a factor for its coordinates
        found.append(torch.autograd.grad(run(features, guidance, size).square().sum(), [features, *up.parameters()]))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("name", [name for name in FORMS if name not in ("nearest", "bilinear", "bicubic")])
def test_parameters_of_a_functional_call_get_the_gradients(name, frozen):
    up, features, guidance, size = make(name, torch.float64, SMALL)
    up.requires_grad_(not frozen)
    values = {key: value.detach() + 0.1 * torch.randn_like(value) for key, value in up.named_parameters()}
    leaves = [value.requires_grad_() for value in values.values()]
    found = []
    for run, prefix in ((up, ""), (resfu.checkpointed(up), "upsampler.")):
        parameters = {prefix + key: 2 * value for key, value in values.items()}
        out = functional_call(run, parameters, (features, guidance, size))
        found.append(torch.autograd.grad(out.square().sum(), leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=1e-6)


def test_the_backward_pass_has_the_autocast_of_the_forward_pass(monkeypatch):
    states, band = [], plan.Plan.band

    def recorded(*args):
        states.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return band(*args)

    monkeypatch.setattr(plan.Plan, "band", recorded)
    up, features, guidance, size = make("carafe", sizes=SMALL)
    for enabled in (True, False):
        states.clear()
        with torch.autocast("cpu", torch.float16, enabled=enabled):
            out = resfu.checkpointed(up)(features, guidance, size)
        forward = len(states)
        with torch.autocast("cpu", torch.bfloat16, enabled=not enabled):
            out.sum().backward()
        assert len(states) == 2 * forward
        assert set(states) == {torch.float16 if enabled else False}
