"""Published multiply-accumulates by formula: against sums worked by hand and against the layers as they run."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from resfu import JBU, SAPA, Upsampler, create_upsampler
from resfu.evaluation.cost import multiply_accumulates
from resfu.evaluation.cost.published_algorithms import Call, Count, published_count
from resfu.upsamplers import a2u, jbu, sapa, starts

PARTS = {"a2u": a2u, "carafe": starts, "fade": starts, "sapa": starts}
C, WIDTH, LOW, SIZE = 32, 64, (6, 5), (12, 10)
CELLS, PIXELS = 2 * 30, 2 * 120


def count(up: Upsampler, guidance: int = 0) -> Count:
    return published_count(up, Call(2, C, LOW, SIZE, guidance))


def count_of_layers(name: str, up: Upsampler, guidance: Tensor, monkeypatch: pytest.MonkeyPatch) -> int:
    """What runs, without the operations that fvcore would not see."""
    if name in PARTS:
        zeros = lambda features, weights, size, *_, **__: features.new_zeros(*features.shape[:2], *size)  # noqa: E731
        monkeypatch.setattr(PARTS[name], "reassemble", zeros)
    monkeypatch.setattr(sapa, "correlate", lambda query, key, K, *_: query.new_zeros(2, K * K, *query.shape[-2:]))
    return multiply_accumulates(up.eval(), torch.zeros(2, C, *LOW), guidance, size=SIZE)


@pytest.mark.parametrize(
    ("name", "options", "uncounted"),
    [
        ("nearest", {}, C * PIXELS),
        ("bilinear", {}, 0),
        ("deconv", {}, 0),
        ("pixelshuffle", {"kernel_size": 3}, 0),
        ("dysample", {"style": "lp"}, 0),
        ("dysample", {"style": "pl", "dynamic_scope": False}, 0),
        ("carafe", {"groups": 2, "kernel_size": 3}, 0),
        ("indexnet", {}, C * PIXELS),
        ("indexnet", {"nonlinear": False, "context": False}, C * PIXELS),
        ("fade", {}, 25 * PIXELS),
        ("fade", {"lite": True}, 25 * PIXELS),
        ("sapa", {"norm": "layer"}, 0),
        ("sapa", {"norm": "none", "kernel_size": 3}, 0),
        ("a2u", {}, WIDTH * PIXELS),
    ],
)
def test_the_layers_are_all_there(
    name: str, options: dict[str, object], uncounted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`uncounted`: nearest resampling and adaptive pooling, which fvcore counts and our counter does not."""
    up = create_upsampler(name, channels=C, guidance_channels=WIDTH, scale_factor=2, **options)
    guidance = torch.zeros(2, WIDTH, *SIZE)
    assert count(up, guidance.numel()).seen == count_of_layers(name, up, guidance, monkeypatch) + uncounted


def test_a_gate_is_one_more_layer_and_its_repetition() -> None:
    plain, gated = (create_upsampler("fade", channels=C, guidance_channels=C, gated=gated) for gated in (False, True))
    assert count(gated).seen - count(plain).seen == C * CELLS + PIXELS


def test_jbu_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it runs, without the two operations over the window and the bicubic resampling; the first is an einsum."""
    monkeypatch.setattr(jbu, "correlate", lambda keys, *_: keys.new_zeros(2, 49, *SIZE))
    monkeypatch.setattr(jbu, "enlarged_sum", lambda x, *_: F.interpolate(x, SIZE, mode="bicubic", align_corners=False))
    up, image = JBU().eval(), torch.zeros(2, 3, *SIZE)
    bicubic, product = 4 * C * PIXELS, 49 * 32 * PIXELS
    run = multiply_accumulates(up, torch.zeros(2, C, *LOW), image, size=SIZE)
    assert count(up) == Count(run - bicubic + product, bicubic + 49 * C * PIXELS)


def test_what_fvcore_does_not_see() -> None:
    """Of the spec's estimates for Segmenter-S: 0.28 G for ReSFU, 0.20 G for reassembly and 0.39 G for JBU."""
    calls = [Call(1, 384, (32, 32), (64, 64), 3 * 512**2), Call(1, 384, (64, 64), (128, 128), 3 * 512**2)]
    direct = Call(1, 384, (32, 32), (128, 128), 3 * 512**2)
    make = lambda name, **options: create_upsampler(name, channels=384, guidance_channels=32, **options)  # noqa: E731
    assert published_count(make("resfu"), direct).unseen == 45 * 384 * 16_384
    assert published_count(make("resfu", neighbours="coarse"), direct).unseen == 9 * 384 * 16_384
    for name in ("carafe", "fade"):
        assert sum(published_count(make(name), call).unseen for call in calls) == 25 * 384 * 20_480
    both = sum(published_count(make("sapa"), call).unseen for call in calls)
    assert both == 25 * 384 * 20_480 + 25 * 32 * 20_480
    stack = create_upsampler("stack-jbu", channels=384)
    assert published_count(stack, direct).unseen == (49 + 4) * 384 * 20_480


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # In units of one number at one of the 240 output pixels: norm and projection of the guidance, the smoothed key,
        # and each block: both normalisations, convolution, centre, compressor with its normalisation, scores.
        ({"alignment": "detail"}, 5 * 64 + 64 * 32 + 9 * 32 + (320 + 128 * 72 + 128 * 8 + 128 * 32 + 640 + 128 * 9)),
        ({"alignment": "detail", "smoothed_key": False},
         5 * 64 + 64 * 32 + (320 + 128 * 72 + 128 * 8 + 128 * 32 + 640 + 128 * 9)),
        # Norm and projection of the features at a quarter of the pixels; key upsampled; seven means, 2 x 17 taps.
        ({"similarity": "inner_product"},
         5 * 64 + 64 * 32 + (5 * 32 + 32 * 32) // 4 + 4 * 32 + 7 * 34 * 32 + 9 * 32),
        ({"similarity": "inner_product", "alignment": "semantic", "guided_query": False},
         5 * 64 + 64 * 32 + (5 * 32 + 32 * 32) // 4 + 4 * 32),
        # At half resolution: 2 x 9 taps and two subsampled maps on a quarter of the pixels, two maps brought back.
        ({"similarity": "inner_product", "alignment": "semantic", "guided_filter_stride": 2},
         5 * 64 + 64 * 32 + (5 * 32 + 32 * 32) // 4 + 4 * 32 + (7 * 18 * 32 + 2 * 32) // 4 + 2 * 4 * 32),
        # A repeated key beside the bilinear one that the guided filter reads.
        ({"similarity": "inner_product", "neighbours": "coarse"},
         5 * 64 + 64 * 32 + (5 * 32 + 32 * 32) // 4 + 5 * 32 + 7 * 34 * 32 + 9 * 32),
        ({"similarity": "concat", "alignment": "detail", "normalize_guidance": False},
         64 * 32 + 9 * 32 + (320 + 128 * 144 + 128 * 32 + 640 + 128 * 9)),
    ],
)  # fmt: skip
def test_resfu_by_hand(options: dict[str, object], expected: int) -> None:
    up = create_upsampler("resfu", channels=C, guidance_channels=WIDTH, **options)
    assert count(up).seen == expected * PIXELS


def test_a_class_without_a_formula_is_refused() -> None:
    class Own(Upsampler):
        pass

    class OwnSAPA(SAPA):
        """A subclass is counted as its base."""

    with pytest.raises(ValueError, match="no published count for Own"):
        count(Own())
    assert count(OwnSAPA(C, WIDTH)) == count(SAPA(C, WIDTH))
