"""What each upsampler adds to its network, to the parameter: every figure of the published Tables I to VI and VIII.

arXiv 2407.02283; the additions are computed there and here from the sizes of the layers, and rounded they are the
published ones.
"""

from functools import partial

import pytest
import torch
from torch import nn

from resfu import A2U, CARAFE, FADE, JBU, SAPA, Deconv, DySample, IndexNet, PixelShuffle, ReSFU, StackJBU
from resfu.hosts.blocks import ImageGuidance

pl = partial(DySample, style="pl")  # with dynamic scope: DySample-S+


def _direct(C, guide, guidance=(), dysample=DySample):
    """PSPNet and Segmenter: features of C channels to four times their size, some methods in two steps of 2."""
    return {
        "Deconv": [(Deconv, C, 4)],
        "PixelShuffle": [(PixelShuffle, C, 4)],
        "Stack-JBU": [(StackJBU, C)],
        "CARAFE": [(CARAFE, C)] * 2,
        "FADE": [*guidance, *[(FADE, C, guide)] * 2],
        "SAPA": [*guidance, *[(SAPA, C, guide)] * 2],
        "DySample": [(dysample, C)] * 2,
        "ReSFU": [*guidance, (ReSFU, C, guide)],
    }


def _pyramid(steps):
    """SegFormer and MaskFormer: 256 channels, a list of the number of x2 steps of each level."""
    number = sum(steps)
    return {
        "Deconv": [(Deconv, 256)] * number,
        "PixelShuffle": [(PixelShuffle, 256)] * number,
        "Stack-JBU": [(partial(StackJBU, steps=n), 256) for n in steps],
        "CARAFE": [(CARAFE, 256)] * number,
        "IndexNet": [(IndexNet, 256, 256)] * number,
        "FADE": [(FADE, 256, 256)] * number,
        "SAPA": [(SAPA, 256, 256)] * number,
        "DySample": [(pl, 256)] * number,
        "ReSFU": [(ReSFU, 256, 256)] * 3,
    }


CONV_BLOCK = [(ImageGuidance,)]
NETWORKS = {
    "PSPNet-R50": _direct(512, 64, dysample=pl),
    "PSPNet-R101": _direct(512, 64, dysample=pl),
    "Segmenter-S": _direct(384, 32, CONV_BLOCK),
    "Segmenter-L": _direct(1024, 32, CONV_BLOCK),
    "SegFormer-B1": _pyramid([3, 2, 1]),
    "SegFormer-B5": _pyramid([3, 2, 1]),
    "MaskFormer-SwinB": _pyramid([3]),
    "MaskFormer-SwinL": _pyramid([3]),
}
METHODS = {  # Tables I to IV
    ("PSPNet-R50", "PSPNet-R101"): {
        "Deconv": 4_194_816,
        "PixelShuffle": 4_202_496,
        "Stack-JBU": 275_122,
        "CARAFE": 181_064,
        "FADE": 102_706,
        "SAPA": 39_296,
        "DySample": 4_112,
        "ReSFU": 49_746,
    },
    ("Segmenter-S",): {
        "Deconv": 2_359_680,
        "PixelShuffle": 2_365_440,
        "Stack-JBU": 160_306,
        "CARAFE": 164_680,
        "FADE": 102_610,
        "SAPA": 48_800,
        "DySample": 49_216,
        "ReSFU": 64_690,
    },
    ("Segmenter-L",): {
        "Deconv": 16_778_240,
        "PixelShuffle": 16_793_600,
        "Stack-JBU": 1_062_066,
        "CARAFE": 246_600,
        "FADE": 184_530,
        "SAPA": 92_320,
        "DySample": 131_136,
        "ReSFU": 86_450,
    },
    ("SegFormer-B1", "SegFormer-B5"): {
        "Deconv": 1_574_400,
        "PixelShuffle": 1_579_008,
        "Stack-JBU": 234_774,
        "CARAFE": 444_888,
        "IndexNet": 12_601_344,
        "FADE": 283_542,
        "SAPA": 104_832,
        "DySample": 6_192,
        "ReSFU": 142_710,
    },
    ("MaskFormer-SwinB", "MaskFormer-SwinL"): {
        "Stack-JBU": 84_491,
        "CARAFE": 222_444,
        "FADE": 141_771,
        "SAPA": 52_416,
        "DySample": 3_096,
        "ReSFU": 142_710,
    },
}
ROWS = [
    (network, method, count)
    for networks, counts in METHODS.items()
    for network in networks
    for method, count in counts.items()
]
SEMANTIC = {"alignment": "semantic"}
ABLATIONS = [  # Tables V, VI and VIII: options of ReSFU, Segmenter-S and SegFormer-B1
    ("V b", SEMANTIC | {"guided_query": False}, 49_641, 97_563),
    ("V c", SEMANTIC, 49_641, 97_563),
    ("V d", {"alignment": "detail", "smoothed_key": False}, 36_553, 71_355),
    ("V e", {"alignment": "detail"}, 36_553, 71_355),
    ("V f", {}, 64_690, 142_710),
    ("VI a", {"similarity": "inner_product"}, 34_592, 52_416),
    ("VI b", {"similarity": "concat"}, 83_122, 198_006),
    ("VI c", {"similarity": "pcdc"}, 64_690, 142_710),
    ("VII", {"neighbours": "coarse"}, 64_690, 142_710),
    ("VIII K=3", {"kernel_size": 3}, 64_690, None),
    ("VIII K=5", {"kernel_size": 5}, 101_586, None),
    ("VIII K=7", {"kernel_size": 7}, 156_930, None),
    ("VIII D=16", {"projection_dim": 16}, 48_722, None),
    ("VIII D=32", {"projection_dim": 32}, 64_690, None),
    ("VIII D=64", {"projection_dim": 64}, 96_626, None),
    ("VIII G=1", {"groups": 1}, 144_562, None),
    ("VIII G=2", {"groups": 2}, 91_314, None),
    ("VIII G=4", {"groups": 4}, 64_690, None),
    ("VIII G=8", {"groups": 8}, 51_378, None),
]


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def build(calls):
    with torch.device("meta"):
        return [constructor(*widths) for constructor, *widths in calls]


@pytest.mark.parametrize(("network", "method", "addition"), ROWS, ids=lambda v: str(v))
def test_additions_of_the_methods(network, method, addition):
    assert count(*build(NETWORKS[network][method])) == addition


@pytest.mark.parametrize(
    ("row", "options", "segmenter", "segformer"), ABLATIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_additions_of_the_ablations(row, options, segmenter, segformer):
    method = partial(ReSFU, **options)
    assert count(*build([*CONV_BLOCK, (method, 384, 32)])) == segmenter
    if segformer is not None:
        assert count(*build([(method, 256, 256)] * 3)) == segformer


def test_other_published_forms():
    """Figures of the compared papers, and one module's formula where the tables do not reach."""
    assert count(*build([(A2U, 256, 256)])) == 10_790
    assert count(*build([(JBU,)])) == 6_233
    assert count(*build([(partial(DySample, dynamic_scope=False), 256)])) == 257 * 32
    assert count(*build([(partial(pl, dynamic_scope=False, groups=8), 256)])) == 65 * 16
    assert count(*build([(partial(pl, scope_bias=True), 256)])) == 1_032 + 8
    assert count(*build([(partial(FADE, gated=True), 256, 256)])) == 47_257 + 257
    assert count(*build([(partial(FADE, lite=True), 256, 64)])) == 65 * 25 + 256 * 25 + 25 * 9 + 25
    assert count(*build([(partial(SAPA, projection_dim=64), 256, 256)])) == 2 * 512 + 2 * 257 * 64
    assert count(*build([(partial(IndexNet, context=False), 256, 64)])) == 8 * 64**2 + 12 * 64
    assert count(*build([(partial(IndexNet, nonlinear=False), 256, 64)])) == 16 * 64 * 4
