"""Peak memory of calls whose every allocation is known."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resfu.evaluation.cost import peak_memory

N = 10_000
BYTES = 4 * N
SCALARS = 24  # a Python number in an operation becomes a tensor of up to 8 bytes, twice


def close(measured: int, expected: int) -> bool:
    return expected <= measured <= expected + SCALARS


def test_temporaries_count_while_they_live() -> None:
    x = torch.ones(N)
    assert peak_memory(torch.exp, x) == BYTES
    assert peak_memory(lambda x: x.exp().neg().abs(), x) == 2 * BYTES  # each input goes when its result is there
    assert close(peak_memory(lambda x: x * 2 + 1, x), 2 * BYTES)
    assert peak_memory(lambda x: [x.exp() for _ in range(5)], x) == 5 * BYTES


def test_views_and_in_place_work_are_free() -> None:
    x = torch.ones(N)
    assert peak_memory(lambda x: x.view(100, -1).t()[5:].relu_(), x) == 0
    assert peak_memory(lambda x: x.exp().relu_().view(100, -1).t(), x) == BYTES


def test_temporaries_inside_an_operation_are_seen() -> None:
    x = torch.ones(1, 4, 50, 50).transpose(2, 3)
    inside = 4 * x.numel()  # group_norm makes its input contiguous
    assert peak_memory(F.group_norm, x, 2) == inside + 4 * x.numel() + 2 * 2 * 4


def test_the_dtype_and_the_first_call_do_not_matter() -> None:
    cache: list[Tensor] = []

    def cached(x: Tensor) -> Tensor:
        if not cache:
            cache.append(x.repeat(10))
        return x.exp()

    assert peak_memory(cached, torch.ones(N, dtype=torch.float64)) == 2 * BYTES


def test_release_of_older_tensors_is_not_subtracted() -> None:
    older: list[Tensor] = []
    for _ in range(2):
        peak_memory(lambda: older.append(torch.ones(N)))  # one call each is recorded: the profiler knows that tensor

    def release_two(x: Tensor) -> Tensor:
        del older[-2:]
        return x.exp()

    assert peak_memory(release_two, torch.ones(N)) == BYTES
    assert not older


def test_gradients_only_on_request() -> None:
    net = nn.Sequential(nn.Sigmoid(), nn.Sigmoid(), nn.Sigmoid(), nn.Sigmoid())
    x = torch.ones(N, requires_grad=True)
    assert peak_memory(net, x) == 2 * BYTES
    assert peak_memory(net, x, grad=True) == 4 * BYTES


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    peak_memory(torch.exp, torch.ones(3))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_counts_requested_bytes() -> None:
    x = torch.ones(N + 1, device="cuda")  # blocks of 512 bytes would round it up
    assert peak_memory(lambda x: x * 2 + 1, x) == 2 * 4 * (N + 1)
    assert peak_memory(lambda x: x.relu_(), x) == 0
    assert peak_memory(nn.Linear(8, 4, device="cuda"), torch.ones(16, 8, device="cuda")) == 16 * 4 * 4
