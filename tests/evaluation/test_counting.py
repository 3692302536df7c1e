"""Multiply-accumulates by hand, against fvcore and against PyTorch's own counter of products."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from resfu.evaluation.cost import count_parameters, multiply_accumulates, multiply_accumulates_by_operation


def fvcore_count(module: nn.Module, *inputs: Tensor) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace, which fvcore stands on, is deprecated
        from fvcore.nn import FlopCountAnalysis

        analysis = FlopCountAnalysis(module, inputs).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        return int(analysis.total())


def tensor(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_parameters() -> None:
    linear = nn.Linear(3, 4)
    linear.bias.requires_grad_(False)
    twice = nn.ModuleList([linear, linear])  # shared: counts once
    assert count_parameters(twice) == 3 * 4 + 4
    assert count_parameters(twice, trainable_only=True) == 3 * 4


@pytest.mark.parametrize(
    ("name", "call", "expected"),
    [
        ("convolution", lambda: F.conv2d(tensor(2, 6, 9, 7), tensor(8, 6, 3, 3), tensor(8)), 2 * 8 * 6 * 9 * 7 * 5),
        ("stride, padding", lambda: F.conv2d(tensor(1, 3, 8, 8), tensor(4, 3, 3, 3), None, 2, 1), 4 * 3 * 9 * 4 * 4),
        ("groups", lambda: F.conv2d(tensor(1, 6, 8, 8), tensor(6, 1, 3, 3), groups=6), 6 * 9 * 6 * 6),
        ("dilation", lambda: F.conv2d(tensor(1, 2, 8, 8), tensor(5, 2, 3, 3), dilation=2), 5 * 2 * 9 * 4 * 4),
        ("same", lambda: F.conv2d(tensor(1, 2, 8, 8), tensor(5, 2, 3, 3), padding="same"), 5 * 2 * 9 * 8 * 8),
        (
            "transposed",
            lambda: F.conv_transpose2d(tensor(2, 6, 5, 4), tensor(6, 3, 2, 2), stride=2),
            2 * 6 * 3 * 4 * 20,
        ),
        ("transposed groups", lambda: F.conv_transpose2d(tensor(1, 6, 5, 4), tensor(6, 1, 3, 3), groups=3), 6 * 9 * 20),
        ("1-d convolution", lambda: F.conv1d(tensor(1, 2, 10), tensor(3, 2, 3)), 3 * 2 * 3 * 8),
        ("linear", lambda: F.linear(tensor(2, 5, 7), tensor(3, 7), tensor(3)), 2 * 5 * 7 * 3),
        ("matmul, broadcast", lambda: tensor(4, 2, 3) @ tensor(3, 5), 4 * 2 * 3 * 5),
        ("mm into", lambda: torch.mm(tensor(2, 3), tensor(3, 4), out=torch.empty(2, 4)), 2 * 3 * 4),
        ("in place", lambda: tensor(2, 4).addmm_(tensor(2, 3), tensor(3, 4)), 2 * 3 * 4),
        ("matrix and vector", lambda: tensor(4, 5) @ tensor(5), 4 * 5),
        ("vectors", lambda: tensor(5) @ tensor(5), 5),
        ("baddbmm", lambda: torch.baddbmm(tensor(2, 3, 5), tensor(2, 3, 4), tensor(2, 4, 5)), 2 * 3 * 4 * 5),
        ("einsum", lambda: torch.einsum("bchw,bcd->bdhw", tensor(2, 3, 4, 5), tensor(2, 3, 6)), 2 * 3 * 20 * 6),
        ("sparse", lambda: torch.sparse.mm(torch.eye(6).to_sparse(), tensor(6, 4)), 6 * 4),
        ("group norm", lambda: F.group_norm(tensor(2, 4, 3, 3), 2, tensor(4), tensor(4)), 5 * 72),
        ("plain group norm", lambda: F.group_norm(tensor(2, 4, 3, 3), 2), 4 * 72),
        ("layer norm", lambda: F.layer_norm(tensor(2, 3, 8), [8], tensor(8), tensor(8)), 5 * 48),
        ("bilinear", lambda: F.interpolate(tensor(1, 2, 4, 4), size=(7, 9), mode="bilinear"), 4 * 2 * 63),
        ("bicubic", lambda: F.interpolate(tensor(1, 2, 4, 4), size=(7, 9), mode="bicubic"), 4 * 2 * 63),
        ("grid", lambda: F.grid_sample(tensor(1, 2, 4, 4), tensor(1, 3, 5, 2), align_corners=False), 4 * 2 * 15),
        ("nearest", lambda: F.interpolate(tensor(1, 2, 4, 4), scale_factor=2, mode="nearest"), 0),
        ("elementwise", lambda: (tensor(4, 4) * 2 + 1).softmax(1).cumsum(0).exp().sum(), 0),
        ("copies", lambda: F.unfold(F.pad(tensor(1, 2, 4, 4), (1, 1, 1, 1)), 3).permute(0, 2, 1).contiguous(), 0),
    ],
)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_by_hand(name: str, call: Callable[[], Tensor], expected: int, mode: Callable[[], Any]) -> None:
    with mode():
        assert multiply_accumulates(call) == expected


@pytest.mark.parametrize("dropout", [0.0, 0.5])  # with dropout the products are not fused
def test_attention_counts_both_products(dropout: float) -> None:
    query, key, value = tensor(2, 3, 10, 8), tensor(2, 3, 6, 8), tensor(2, 3, 6, 8)
    mask = torch.zeros(10, 6)
    counts = multiply_accumulates(F.scaled_dot_product_attention, query, key, value, mask, dropout_p=dropout)
    assert counts == 2 * (2 * 3 * 10 * 6 * 8)


def test_transformer_layer_is_counted_on_its_fast_path_too() -> None:
    layer, x = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(), tensor(2, 5, 8)
    products = 10 * 8 * 8 * 4 + 2 * (2 * 5 * 5 * 8) + 2 * (10 * 8 * 16)
    assert multiply_accumulates(layer, x) == products + 2 * 5 * x.numel()


class SmallNet(nn.Module):
    """A bit of everything that fvcore knows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
        self.norm = nn.GroupNorm(2, 8)
        self.up = nn.ConvTranspose2d(8, 6, 4, 2, 1)
        self.instance = nn.InstanceNorm2d(6, affine=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.depthwise(self.stem(x)))
        x = self.instance(self.up(x))
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.head(x.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("training", [True, False])
def test_small_network_equals_fvcore(training: bool) -> None:
    net, x = SmallNet().train(training), tensor(2, 3, 16, 20)
    assert multiply_accumulates(net, x) == fvcore_count(net, x)


def test_transformer_block_equals_fvcore_without_fusion_and_with() -> None:
    block, x = Block(dim=24, num_heads=3, qkv_bias=True).eval(), tensor(2, 17, 24)
    assert block.attn.fused_attn
    fused = multiply_accumulates(block, x)
    block.attn.fused_attn = False
    assert multiply_accumulates(block, x) == fused == fvcore_count(block, x)


def test_products_equal_half_of_pytorchs_flops() -> None:
    block, x = Block(dim=24, num_heads=3).eval(), tensor(2, 17, 24)
    block.attn.fused_attn = False  # not every release of PyTorch counts the fused one on the CPU
    with FlopCounterMode(display=False) as flops:
        block(x)
    counts = multiply_accumulates_by_operation(block, x)
    assert 2 * (sum(counts.values()) - counts["native_layer_norm"]) == flops.get_total_flops()


def test_breakdown_names_the_operations() -> None:
    net, x = nn.Sequential(nn.Conv2d(2, 3, 1), nn.GroupNorm(1, 3)), tensor(1, 2, 4, 4)
    counts = multiply_accumulates_by_operation(net, x)
    assert counts == {"native_group_norm": 5 * 48, "convolution": 2 * 48}
    assert list(counts) == ["native_group_norm", "convolution"], "largest first"


@torch.library.custom_op("resfu_test::double_product", mutates_args=())
def double_product(a: Tensor, b: Tensor) -> Tensor:
    return product(a, b) + a @ b


@torch.library.custom_op("resfu_test::product", mutates_args=(), device_types="cpu")
def product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


double_product.register_autograd(lambda ctx, grad: (grad, grad))


def test_custom_operations_are_looked_into() -> None:
    weight = nn.Parameter(tensor(4, 5))
    assert multiply_accumulates(double_product, tensor(3, 4), weight) == 2 * (3 * 4 * 5)
    assert double_product(tensor(3, 4), weight).requires_grad, "counting leaves the operation as it was"


def test_keywords_are_passed_on() -> None:
    call = lambda x, size: F.interpolate(x, size=size, mode="bilinear")  # noqa: E731
    assert multiply_accumulates(call, tensor(1, 1, 2, 2), size=(3, 3)) == 4 * 9
