"""Half precision on the CPU with the compiled kernels and without: `python -m benchmarks.half_precision`.

Two threads, pages kept, all contenders in turn within every round. Without the kernels PyTorch's operators compute in
bf16. Writes benchmarks/results/half-precision.json.
"""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict
from unittest import mock

import torch
from rich.console import Console
from torch import Tensor

import resfu
from benchmarks import results
from resfu.evaluation.cost import Latency, rounds
from resfu.upsamplers import base

ROUNDS = 9
THREADS = 2
GUIDANCE = 32
CASES = ("fp32", "autocast", "autocast, forward + backward", "bf16", "bf16, forward + backward")
WHO = ("operators", "kernels")
MAPS = (  # name, batch, channels, low, ratio
    ("resfu", 1, 384, 32, 4),
    ("resfu", 8, 64, 14, 8),
    ("carafe", 1, 256, 120, 2),
    ("sapa", 1, 256, 120, 2),
    ("fade", 1, 256, 120, 2),
    ("dysample", 1, 256, 120, 2),
    ("stack-jbu", 1, 256, 120, 2),
)


def measure(name: str, batch: int, channels: int, low: int, ratio: int) -> dict:
    """Time an upsampler in all cases, with the kernels and without."""
    torch.manual_seed(0)
    width = 3 if resfu.UPSAMPLERS[name].image_guided else GUIDANCE
    whole = resfu.create_upsampler(name, channels=channels, guidance_channels=width, scale_factor=ratio).eval()
    half = deepcopy(whole).bfloat16()
    x, y = torch.randn(batch, channels, low, low), torch.randn(batch, width, ratio * low, ratio * low)

    def contender(case: str, who: str) -> Callable[[], Tensor]:
        up, maps = (half, (x.bfloat16(), y.bfloat16())) if case.startswith("bf16") else (whole, (x, y))
        train = case.endswith("backward")
        features = maps[0].requires_grad_() if train and maps[0] is not x else maps[0].clone().requires_grad_(train)

        def run() -> Tensor:
            by = mock.patch.object(base, "in_fp32", return_value=None) if who == "operators" else nullcontext()
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=case.startswith("autocast"))
            with by, torch.set_grad_enabled(train):
                with autocast:
                    out = up(features, maps[1])
                if train:
                    out.sum().backward()
            return out

        return run

    contenders = {f"{case}, {who}": contender(case, who) for case in CASES for who in WHO}
    del contenders["fp32, operators"]  # fp32 takes the kernels as it is
    times = {who: Latency.of(taken) for who, taken in rounds(contenders, ROUNDS, settle=1).items()}
    shape = f"{channels} channels, {low} -> {ratio * low}" + (f", batch {batch}" if batch > 1 else "")
    return {"name": f"{name}, {shape}", "times": {who: asdict(time) for who, time in times.items()}}


def main() -> None:
    torch.set_num_threads(THREADS)
    kept = resfu.keep_pages()
    console, rows = Console(), []
    for given in MAPS:
        rows.append(measure(*given))
        console.print(rows[-1]["name"], {who: round(time["median_ms"], 1) for who, time in rows[-1]["times"].items()})
    results.save("half-precision", ROUNDS, rows, pages_kept=kept)


if __name__ == "__main__":
    main()
