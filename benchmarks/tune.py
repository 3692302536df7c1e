"""Which tiles of the GPU kernels are fastest on this GPU: `python -m benchmarks.gpu --tune`.

Every choice is timed on a map of a usual size, in turn with the others, and the fastest goes into
src/resfu/ops/gpu_tiles.json under the GPU's architecture. The entries of other architectures stay.
"""

import json
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from resfu import ReSFU, ops
from resfu.evaluation.cost import rounds
from resfu.files.atomic import write_json
from resfu.ops import tuned
from resfu.ops.reassembly.triton_tiles import shapes

TARGET = Path(tuned.__file__).with_name(tuned.FILE)
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


class Case(NamedTuple):
    """A choice to make.

    Attributes:
        kernel: as in `tuned.tuned`.
        key: what it depends on.
        choices: what may be chosen.
        call: runs the kernel.
    """

    kernel: str
    key: tuple
    choices: list[dict[str, int]]
    call: Callable[[], object]


def cases(batch: int, channels: int, low: int) -> Iterator[Case]:
    """Window sums of the family (M = 4 fine, 5 coarse, 7 dense) and the scores of ReSFU, in every dtype and layout."""
    for dtype, last in product(DTYPES, (False, True)):
        layout = torch.channels_last if last else torch.contiguous_format
        for K, neighbours, ratio in ((3, "fine", 4), (5, "coarse", 2), (7, "dense", 1)):
            x = torch.randn(batch, channels, low, low, dtype=dtype).to(memory_format=layout)
            weights = torch.randn(batch, K * K, low * ratio, low * ratio, dtype=dtype)
            M = K + (neighbours == "fine")
            key = (M, neighbours, "last" if last else "first", dtype.itemsize)
            choices = [{"rows": rows, "columns": columns} for rows, columns in shapes(last)]
            yield Case("window_sum", key, choices, _call(x, weights, neighbours))
    for dtype in DTYPES:
        up = ReSFU(channels, 32).to(dtype).eval()
        x, y = (
            torch.randn(batch, channels, low, low, dtype=dtype),
            torch.randn(batch, 32, 4 * low, 4 * low, dtype=dtype),
        )
        choices = [{"pixels": pixels, "warps": warps} for pixels, warps in product((16, 32, 64, 128), (2, 4, 8))]
        for reading in ("fine", "dilated"):
            yield Case("similarity", (reading, 32, dtype), choices, lambda up=up, x=x, y=y: up(x, y))


def _call(x: torch.Tensor, weights: torch.Tensor, neighbours: str) -> Callable[[], object]:
    return lambda: ops.reassemble(x, weights, neighbours=neighbours)


def fastest(case: Case, repeats: int) -> tuple[dict[str, int], dict[str, float]]:
    """The fastest choice, and the milliseconds of all that run. One that asks for too much of the GPU is left out."""

    def run(choice: dict[str, int]) -> Callable[[], object]:
        def call() -> object:
            with tuned.forced(case.kernel, case.key, choice):
                return case.call()

        return call

    contenders = {}
    for choice in case.choices:
        try:
            run(choice)()
        except Exception as error:  # Triton has several for too little shared memory or too few registers
            print(f"  {choice}: {type(error).__name__}")
        else:
            contenders[json.dumps(choice)] = run(choice)
    if not contenders:
        raise RuntimeError(f"none of the choices of {case.kernel} {tuned.name_of(*case.key)} runs here.")
    times = {name: sorted(each)[len(each) // 2] for name, each in rounds(contenders, repeats, warmup=2).items()}
    return json.loads(min(times, key=lambda name: times[name])), times


@torch.no_grad()
def tune(tiny: bool) -> dict[str, Any]:
    """Time every case; returns what was chosen, and writes it unless `tiny`."""
    chosen: dict[str, dict[str, Any]] = {}
    for case in cases(1, 32, 4) if tiny else cases(16, 384, 32):
        choice, times = fastest(case, 2 if tiny else 20)
        chosen.setdefault(case.kernel, {})[tuned.name_of(*case.key)] = choice
        print(case.kernel, tuned.name_of(*case.key), choice, f"of {len(times)}, {min(times.values()):.3f} ms")
    if not tiny:
        table = json.loads(TARGET.read_text("utf-8"))
        write_json(TARGET, table | {tuned.architecture(): chosen})
    return chosen
