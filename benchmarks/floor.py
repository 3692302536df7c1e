"""How far the upsamplers are from bilinear interpolation, beside what they are to reach: `python -m benchmarks.floor`.

fp32, two threads, one process that keeps the pages it frees, contenders in turn within every round, medians. In each
turn the second call counts. Prints and writes every number of the list of targets, met or not, into
benchmarks/results/floor.json, or floor-avx2.json on a processor without AVX-512; `--only WORD` measures the rows whose
name holds a word, and takes over the others that were measured on the same kind of machine.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from benchmarks import published, results
from resfu import CARAFE, ReSFU, StackJBU, keep_pages
from resfu.compare.machine import describe_machine
from resfu.evaluation.cost import Latency, peak_memory, rounds
from resfu.ops import reassemble

ROUNDS, THREADS = 9, 2
_CAPABILITY = torch.backends.cpu.get_cpu_capability()
# Of the file: ratios to interpolation differ between kinds of processors.
NAME = "floor" if _CAPABILITY == "AVX512" else f"floor-{_CAPABILITY.lower()}"
Call = Callable[[], object]


@dataclass
class Row:
    """One line: calls that are timed against "bilinear", and the ratios that are to be reached.

    Attributes:
        name: what is measured.
        calls: "bilinear", "ours" and others.
        at_most: of "ours" in times of "bilinear".
        at_least: of a slower form in times of "ours": its name and the ratio.
        peak: most bytes of "ours", in times of `peak_of`.
        peak_of: bytes.
        grad: whether gradients are recorded.
    """

    name: str
    calls: dict[str, Call]
    at_most: float
    at_least: tuple[str, float] | None = None
    peak: float | None = None
    peak_of: Callable[[], float] = field(default=lambda: 0.0)
    grad: bool = False


def forward(channels: int, low: int, ratio: int, at_most: float, **more) -> Row:
    torch.manual_seed(0)
    high = low * ratio
    up, x, y = ReSFU(channels, 32).eval(), torch.randn(1, channels, low, low), torch.randn(1, 32, high, high)
    calls = {
        "bilinear": lambda: F.interpolate(x, size=(high, high), mode="bilinear", align_corners=False),
        "ours": lambda: up(x, y),
    }
    if "at_least" in more:
        calls["published"] = partial(published.resfu, up, x, y)
    name = f"ReSFU x{ratio}, {channels} channels, {low} -> {high}"
    return Row(name, calls, at_most, peak_of=lambda: 4.0 * channels * high * high, **more)


def training_pass(batch: int, channels: int, low: int, ratio: int, at_most: float) -> Row:
    torch.manual_seed(0)
    high = low * ratio
    up = ReSFU(channels, 32)
    x = torch.randn(batch, channels, low, low, requires_grad=True)
    y = torch.randn(batch, 32, high, high, requires_grad=True)
    grad = torch.randn(batch, channels, high, high)
    calls = {
        "bilinear": lambda: F.interpolate(x, size=(high, high), mode="bilinear", align_corners=False).backward(grad),
        "ours": lambda: up(x, y).backward(grad),
    }
    name = f"ReSFU forward + backward, batch {batch}, {channels} channels, {low} -> {high}"
    return Row(name, calls, at_most, grad=True)


def window_pass(batch: int, channels: int, low: int, K: int, at_most: float) -> Row:
    """The sum that CARAFE, SAPA, FADE and A2U share, of given scores, beside the same by PyTorch's operators."""
    torch.manual_seed(0)
    high = 2 * low
    x = torch.randn(batch, channels, low, low, requires_grad=True)
    scores = torch.randn(batch, K * K, high, high, requires_grad=True)
    grad = torch.randn(batch, channels, high, high)

    def summed(backend: str) -> Call:
        return lambda: reassemble(x, scores, neighbours="coarse", softmax=True, backend=backend).backward(grad)

    calls = {
        "bilinear": lambda: F.interpolate(x, size=(high, high), mode="bilinear", align_corners=False).backward(grad),
        "ours": summed("auto"),
        "operators": summed("cpu"),
    }
    name = f"window sum x2, K = {K}, forward + backward, batch {batch}, {channels} channels, {low} -> {high}"
    return Row(name, calls, at_most, at_least=("operators", 2.0), grad=True)


def training_step(at_most: float, peak: float) -> Row:
    """A step of the demo: network, loss, gradients and optimiser on a batch of the recipe's size."""
    from resfu.recipes import read_recipe
    from resfu.tasks.experiment import Experiment

    def step(upsampler: str) -> Call:
        model = {"upsampler": upsampler, "pretrained": False}
        module = Experiment(read_recipe("scenes"), {"model": model}).create_module().train()
        torch.manual_seed(0)
        images, labels = torch.randn(4, 3, 192, 192), torch.randint(0, 4, (4, 192, 192))
        parameters = [p for p in module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)

        def run() -> None:
            logits = F.interpolate(module.host(images), size=(192, 192), mode="bilinear", align_corners=False)
            F.cross_entropy(logits, labels).backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        return run

    calls = {"bilinear": step("bilinear"), "ours": step("resfu")}
    return Row(
        "a training step of the demo", calls, at_most, peak=peak,
        peak_of=lambda: float(peak_memory(calls["bilinear"], grad=True)), grad=True,
    )  # fmt: skip


def doubled(name: str, up: torch.nn.Module, at_most: float, guidance: int = 0) -> Row:
    torch.manual_seed(0)
    x, y = torch.randn(1, 256, 120, 120), torch.randn(1, max(guidance, 1), 240, 240)
    inputs = (x, y) if guidance else (x,)
    calls = {
        "bilinear": lambda: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False),
        "ours": lambda: up.eval()(*inputs),
    }
    return Row(f"{name} x2, 256 channels, 120 -> 240", calls, at_most)


def targets() -> Iterator[Callable[[], Row]]:
    yield lambda: forward(384, 32, 4, 4, at_least=("published", 8.0))
    yield lambda: forward(64, 32, 4, 15)
    yield lambda: forward(384, 28, 16, 4, peak=1.15)
    yield lambda: training_pass(8, 64, 14, 8, 8)
    yield lambda: window_pass(8, 64, 56, 5, 2)
    yield lambda: training_step(3, 2)
    yield lambda: doubled("Stack-JBU", StackJBU(256, steps=1), 6, guidance=3)
    yield lambda: doubled("CARAFE", CARAFE(256), 2.5)


def measure(row: Row, repeats: int) -> dict:
    with torch.set_grad_enabled(row.grad):
        taken = rounds(row.calls, repeats, settle=1)
    times = {name: Latency.of(each) for name, each in taken.items()}
    over = times["ours"].median_ms / times["bilinear"].median_ms
    reached = {"over_bilinear": [over, row.at_most, over <= row.at_most]}
    if row.at_least:
        form, least = row.at_least
        ratio = times[form].median_ms / times["ours"].median_ms
        reached[f"{form}_over_ours"] = [ratio, least, ratio >= least]
    if row.peak:
        ratio = peak_memory(row.calls["ours"], grad=row.grad) / row.peak_of()
        reached["peak"] = [ratio, row.peak, ratio <= row.peak]
    return {
        "name": row.name,
        "times": {name: asdict(time) for name, time in times.items()},
        "reached": {key: dict(zip(("value", "target", "met"), each, strict=True)) for key, each in reached.items()},
    }


def table(rows: list[dict]) -> Table:
    shown = Table("", "bilinear ms", "ours ms", "what", "is", "target", "", title="fp32, 2 threads, pages kept")
    for row in rows:
        first = [row["name"], *(f"{row['times'][who]['median_ms']:.1f}" for who in ("bilinear", "ours"))]
        for key, each in row["reached"].items():
            sign = ">=" if key.endswith("_over_ours") else "<="
            cells = key.replace("_", " "), f"{each['value']:.2f}", f"{sign} {each['target']:g}"
            shown.add_row(*first, *cells, "met" if each["met"] else "not met")
            first = [""] * 3
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="rows whose name holds this word")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    kept = keep_pages()
    torch.set_num_threads(THREADS)
    rows = []
    for make in targets():
        row = make()
        if arguments.only in row.name:
            rows.append(measure(row, arguments.rounds))
            print(".", end="", file=sys.stderr, flush=True)
    console = Console()
    console.print(table(rows))
    console.print(f"pages kept: {kept}")
    if arguments.only:
        rows = beside_others(rows)
    console.print(f"written to {results.save(NAME, arguments.rounds, rows, pages_kept=kept)}", soft_wrap=True)


def beside_others(rows: list[dict]) -> list[dict]:
    """Rows that were measured now, in the place of those of the same name in the file of this kind of machine."""
    before = results.record(NAME)
    if before.get("machine") != {**describe_machine(), "threads": THREADS}:
        raise SystemExit(f"{NAME}.json is not there or of another machine: measure all rows.")
    found = {row["name"]: row for row in rows}
    return [found.pop(row["name"], row) for row in before["rows"]] + list(found.values())


if __name__ == "__main__":
    main()
