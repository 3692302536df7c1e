"""A training step of CARAFE with denormal numbers and without: `python -m benchmarks.denormals`.

The scores are scaled until the softmax is as certain as after some hundred steps of training, when most weights of a
window lie far below 1. One thread, pages kept, all contenders in turn within every round. Writes
benchmarks/results/denormals.json.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import pixel_shuffle

from benchmarks import results
from resfu import CARAFE, keep_pages
from resfu.evaluation.cost import Latency, rounds
from resfu.ops import window_softmax
from resfu.training.denormals import denormals_flushed

ROUNDS = 9
BATCH, CHANNELS, LOW = 8, 64, 28  # the middle one of CARAFE's three steps in docs/evidence.md
SPREADS = (0.0, 40.0)  # standard deviation of the scores; 0 leaves those of an untrained CARAFE
LEAST = torch.finfo(torch.float32).tiny


def measure(spread: float) -> dict:
    """Time forward and backward passes in both modes, and compare their gradients."""
    torch.manual_seed(0)
    up, x = CARAFE(CHANNELS), torch.randn(BATCH, CHANNELS, LOW, LOW, requires_grad=True)
    with torch.no_grad():
        scores = up.encoder(up.compressor(x))
        if spread:
            up.encoder.weight.mul_(spread / scores.std())
        weights = window_softmax(pixel_shuffle(up.encoder(up.compressor(x)), 2))
    g = torch.randn(BATCH, CHANNELS, 2 * LOW, 2 * LOW)

    def step(flushed: bool) -> Callable[[], tuple[Tensor, ...]]:
        def run() -> tuple[Tensor, ...]:
            with denormals_flushed() if flushed else nullcontext():
                return torch.autograd.grad(up(x), (x, *up.parameters()), g)

        return run

    contenders = {"computed": step(False), "taken as 0": step(True)}
    pairs = zip(*(run() for run in contenders.values()), strict=True)
    times = {name: Latency.of(taken) for name, taken in rounds(contenders, ROUNDS, settle=1).items()}
    return {
        "spread of the scores": spread,
        "denormal weights": round(((weights > 0) & (weights < LEAST)).float().mean().item(), 4),
        "largest difference of gradients": max((a - b).abs().max().item() for a, b in pairs),
        "times": {name: asdict(time) for name, time in times.items()},
        "ratio": round(times["computed"].median_ms / times["taken as 0"].median_ms, 2),
    }


def main() -> None:
    """See the module."""
    torch.set_num_threads(1)
    kept = keep_pages()
    rows = [measure(spread) for spread in SPREADS]
    Console().print(rows)
    results.save("denormals", ROUNDS, rows, pages_kept=kept)


if __name__ == "__main__":
    main()
