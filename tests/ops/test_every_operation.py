"""What every public operation does with an empty batch, and with what is not a number."""

import pytest
import torch

import resfu
from resfu import ops

LAYERS = ((8, 4, 1, 1), (8,), (8,), (8,), (9, 8, 1, 1), (9,))  # of a compressor


def maps(batch):
    low, high = (batch, 4, 3, 4), (batch, 4, 6, 8)
    weights = (batch, 9, 6, 8)
    cases = {
        "box_filter": (lambda x: ops.box_filter(x, 1), low),
        "gaussian_filter": (ops.gaussian_filter, low),
        "window_softmax": (lambda w: ops.window_softmax(w, 1, (3, 4)), weights),
        "upsampled_group_norm": (lambda x, w, b: ops.upsampled_group_norm(x, (6, 8), 2, w, b), low, (4,), (4,)),
        "inner_product_scores-lr": (lambda k, q: ops.inner_product_scores(k, q, 3, (3, 4)), low, high),
        "inner_product_scores-hr": (lambda k, q: ops.inner_product_scores(k, q, 3, (3, 4)), high, high),
    }
    for stride in (1, 2):
        cases[f"guided_filter-{stride}"] = (lambda g, x, s=stride: ops.guided_filter(g, x, 1, stride=s), high, low)
    for kind in ("fine", "coarse", "dense"):
        of = high if kind == "dense" else low
        cases[f"correlate-{kind}"] = (lambda q, k, n=kind: ops.correlate(q, k, 3, n), high, of)
        cases[f"reassemble-{kind}"] = (lambda x, w, n=kind: ops.reassemble(x, w, neighbours=n), of, weights)
        cases[f"reassemble-softmax-{kind}"] = (
            lambda x, w, n=kind: ops.reassemble(x, w, neighbours=n, softmax=True),
            of,
            weights,
        )
    for similarity, width in (("pcdc", 2), ("concat", 4)):
        for name, of in (("lr", low), ("hr", high)):

            def scores(key, query, weight, bias, *layers, similarity=similarity):
                return ops.similarity_scores(
                    key, query, weight, bias, ops.Compressor(*layers, norm_groups=2), (3, 4), similarity
                )

            cases[f"similarity_scores-{similarity}-{name}"] = (scores, of, high, (8, width, 3, 3), (8,), *LAYERS)
    return cases


def tensors(shapes):
    torch.manual_seed(0)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("name", maps(0))
def test_an_empty_batch_has_gradients_of_zero(name):
    function, *shapes = maps(0)[name]
    inputs = tensors(shapes)
    out = function(*inputs)
    assert out.shape[0] == 0
    out.sum().backward()
    for tensor in inputs:
        assert tensor.grad.shape == tensor.shape
        assert not tensor.grad.any()


@pytest.mark.parametrize("name", maps(2))
@pytest.mark.parametrize("recorded", [True, False])
def test_nan_stays_nan_and_in_its_image(name, recorded):
    function, *shapes = maps(2)[name]
    for n, shape in enumerate(shapes):
        inputs = tensors(shapes)
        with torch.no_grad():
            inputs[n].view(-1)[inputs[n][:1].numel() // 2] = float("nan")
        with torch.set_grad_enabled(recorded):
            out = function(*inputs)
        assert out[0].isnan().any()
        of_a_map = len(shape) == 4 and shape[0] == 2
        assert not of_a_map or out[1].isfinite().all()
        if recorded:
            out.sum().backward()


def test_operations_are_all_here():
    elsewhere = {"Compressor", "which_backend"}
    assert {name.split("-")[0] for name in maps(0)} == set(resfu.ops.__all__) - elsewhere
