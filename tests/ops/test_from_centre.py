"""Reassembly by a softmax that starts at the centre neighbour, against its definition in fp64."""

import pytest
import torch
import torch.nn.functional as F

from resfu.ops import reassemble, window_softmax

CASES = [  # B, C, (h, w), (H, W)
    (1, 12, (4, 5), (8, 10)),
    (2, 7, (3, 6), (12, 45)),
    (1, 16, (9, 4), (20, 33)),
    (1, 3, (1, 2), (3, 64)),
    (2, 8, (6, 6), (6, 6)),
]


def defined(features, scores, mask=True):
    low = tuple(features.shape[-2:]) if mask else None
    centre = torch.zeros(9, 1, 1, dtype=scores.dtype)
    centre[4] = 1
    weights = window_softmax(scores + 4 * centre, 1, low) - window_softmax(0 * scores + 4 * centre, 1, low)
    return reassemble(features, weights + centre, padding="replicate", backend="reference")


def with_gradients(function, given, dtype):
    inputs = [t.to(dtype).requires_grad_() for t in given]
    out = function(*inputs)
    return [out, *torch.autograd.grad(out, inputs, torch.linspace(-1, 1, out.numel()).to(dtype).view_as(out))]


def maps(case):
    torch.manual_seed(0)
    B, C, low, high = case
    return torch.randn(B, C, *low), 3 * torch.randn(B, 9, *high)


@pytest.mark.parametrize("backend", ["auto", "cpu", "reference", "portable"])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(case, mask, backend):
    def run(features, scores):
        given = {"backend": backend, "softmax": True, "mask": mask, "from_centre": True}
        return reassemble(features, scores, padding="replicate", **given)

    got = with_gradients(run, maps(case), torch.float32)
    want = with_gradients(lambda x, s: defined(x, s, mask), maps(case), torch.float64)
    for ours, exact in zip(got, want, strict=True):
        assert (ours - exact).abs().max() <= 5e-6 * exact.abs().max()


@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_scores_of_0_are_bilinear_interpolation(backend):
    features = torch.randn(2, 5, 4, 7)
    out = reassemble(features, torch.zeros(2, 9, 12, 35), backend=backend, softmax=True, mask=True, from_centre=True)
    want = F.interpolate(features, size=(12, 35), mode="bilinear", align_corners=False)
    torch.testing.assert_close(out, want, rtol=0, atol=2e-6)


@pytest.mark.parametrize("backend", ["auto", "cpu"])
@pytest.mark.parametrize("chosen", [0, 3, 8])
def test_scores_can_choose_any_neighbour(chosen, backend):
    features, scores = torch.randn(1, 6, 5, 5), torch.zeros(1, 9, 15, 15)
    scores[:, chosen] = 50
    out = reassemble(features, scores, backend=backend, softmax=True, from_centre=True, padding="replicate")
    scores[:, chosen] = 500
    want = reassemble(features, scores, softmax=True, padding="replicate")
    assert (out - want).abs().max() < 0.26 * features.abs().max()  # 16 / (e^4 + 8); without the head start 16 / 9


def test_second_derivatives():
    def run(features, scores):
        return reassemble(features, scores, softmax=True, mask=True, from_centre=True)

    second = []
    for function, dtype in ((run, torch.float32), (defined, torch.float64)):
        inputs = [t.to(dtype).requires_grad_() for t in maps((1, 4, (3, 4), (6, 8)))]
        first = torch.autograd.grad(function(*inputs).pow(3).sum(), inputs, create_graph=True)
        second.append(torch.autograd.grad(sum(g.sin().sum() for g in first), inputs))
    for ours, exact in zip(*second, strict=True):
        assert (ours - exact).abs().max() <= 2e-5 * exact.abs().max()


def test_written_into_a_given_map():
    features, scores = maps(CASES[1])
    out = torch.empty(2, 7, 12, 45)
    given = {"softmax": True, "mask": True, "from_centre": True}
    assert reassemble(features, scores, out=out, **given) is out
    assert torch.equal(out, reassemble(features, scores, **given))


def test_it_needs_the_softmax():
    features, scores = maps(CASES[0])
    with pytest.raises(ValueError, match="from_centre=True changes the weights of a softmax"):
        reassemble(features, scores, from_centre=True)
