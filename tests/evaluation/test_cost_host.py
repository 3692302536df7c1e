"""A whole network counted without computing it equals the network counted while it runs."""

import pytest
import torch

import resfu
from resfu.evaluation.cost import multiply_accumulates
from resfu.evaluation.cost.host import build_on_meta, host_work, inference_parameters


@pytest.mark.parametrize(
    ("host", "upsampler", "size"),
    [
        ("efficientnet-lite0", "carafe", (64, 96)),
        ("efficientnet-lite0", "resfu", (64, 96)),
        ("efficientnet-lite0", "bicubic", (60, 90)),  # continued to 64 x 96
        ("segformer-mit-b0", "stack-jbu", (64, 64)),
    ],
)
def test_it_equals_the_network_that_runs(host: str, upsampler: str, size: tuple[int, int]) -> None:
    if "segformer" in host:
        pytest.importorskip("transformers", reason="needs the extra hosts")
    net = resfu.create_host(host, upsampler, num_classes=7).eval()
    whole = multiply_accumulates(net, torch.zeros(1, 3, *size))
    H, W = (-(-n // 16) * 16 for n in size)
    work = host_work(build_on_meta(host, upsampler, num_classes=7), size)
    assert work.as_run == whole - 4 * 7 * H * W, "all but the resampling of the logits"
    assert inference_parameters(net) == sum(parameter.numel() for parameter in net.parameters())


def test_the_three_counts() -> None:
    host = build_on_meta("efficientnet-lite0", "carafe", {"kernel_size": 3}, num_classes=7)
    work = host_work(host, (64, 64))
    assert work.paper == work.rest + work.published.seen
    assert work.with_custom_operations - work.paper == 9 * 64 * (8 * 8 + 16 * 16 + 32 * 32)
    assert work.rest == host_work(build_on_meta("efficientnet-lite0", "nearest", num_classes=7), (64, 64)).rest


def test_counting_leaves_the_network_as_it_was() -> None:
    host = build_on_meta("efficientnet-lite0", "resfu", num_classes=7)
    first = host_work(host, (64, 64))
    assert host_work(host, (64, 64)) == first
    upsampler = host.head.slot.upsampler
    assert "upsample" not in vars(upsampler)
    assert next(upsampler.parameters()).device.type == "cpu"


def test_a_failure_inside_the_network_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    host = build_on_meta("efficientnet-lite0", "resfu", num_classes=7)
    monkeypatch.setattr(host.encoder, "forward", lambda images: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        host_work(host, (64, 64))
    assert "upsample" not in vars(host.head.slot.upsampler)


def test_bad_names_are_said() -> None:
    with pytest.raises(ValueError, match="unknown host 'segnet'; choose one of"):
        build_on_meta("segnet", "resfu")
    with pytest.raises(ValueError, match="carafe has no option stile"):
        build_on_meta("efficientnet-lite0", "carafe", {"stile": "pl"})
