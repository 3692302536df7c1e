"""What the rows of docs/evidence.md cost, side by side: `python -m benchmarks.evidence.cost`.

One network a row, fp32, two threads, one process that keeps the pages it frees, rows in turn within every round,
medians. Inference: one image of CamVid's size. Training: a step of the protocol, 8 crops of 224. Writes
benchmarks/results/evidence-cost.json.
"""

import argparse
from collections.abc import Callable
from dataclasses import asdict

import torch
import torch.nn.functional as F

from benchmarks.evidence.protocol import RATE, ROWS, Training
from benchmarks.results import save
from resfu import keep_pages
from resfu.evaluation.cost import Latency, count_parameters, multiply_accumulates, peak_memory, rounds

NAME, THREADS, ROUNDS = "evidence-cost", 2, 5
SIZE, BATCH, CROP, CLASSES = (360, 480), 8, 224, 11
SHOWN = (
    "bilinear",
    "bilinear-skip",
    "nearest",
    "dysample",
    "carafe",
    "stack-jbu",
    "sapa",
    "fade",
    "resfu",
    "resfu-plain-query",
    "resfu-plain-key",
    "resfu-semantic",
    "resfu-detail",
    "resfu-inner-product",
    "resfu-concat",
    "resfu-coarse",
    "resfu-start",
)


def inference(host: torch.nn.Module) -> Callable[[], object]:
    image = torch.randn(1, 3, *SIZE)
    return lambda: host.eval()(image)


def training_step(host: torch.nn.Module) -> Callable[[], object]:
    images, labels = torch.randn(BATCH, 3, CROP, CROP), torch.randint(0, CLASSES, (BATCH, CROP, CROP))
    optimiser = torch.optim.AdamW([p for p in host.parameters() if p.requires_grad], lr=1e-4)

    def run() -> None:
        logits = F.interpolate(host.train()(images), size=(CROP, CROP), mode="bilinear", align_corners=False)
        F.cross_entropy(logits, labels).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return run


def measure(repeats: int) -> list[dict]:
    """A row for each of `SHOWN`."""
    hosts, rows = {}, {}
    for name in SHOWN:
        torch.manual_seed(0)
        experiment = Training(ROWS[name], RATE, 0).experiment("")
        hosts[name] = experiment.with_weights().create_module().train().host
        rows[name] = {"name": name, "parameters": count_parameters(hosts[name], trainable_only=True)}
    with torch.no_grad():
        image = torch.randn(1, 3, *SIZE)
        for name, host in hosts.items():
            rows[name]["multiply_accumulates"] = multiply_accumulates(host.eval(), image)
            rows[name]["peak_bytes"] = peak_memory(inference(host))
        taken = rounds({name: inference(host) for name, host in hosts.items()}, repeats)
    for name, each in taken.items():
        rows[name]["inference"] = asdict(Latency.of(each))
    for name, each in rounds({name: training_step(host) for name, host in hosts.items()}, repeats).items():
        rows[name]["training"] = asdict(Latency.of(each))
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    kept = keep_pages()
    torch.set_num_threads(THREADS)
    rows = measure(options.rounds)
    for row in rows:
        print(f"{row['name']:14} {row['inference']['median_ms']:8.1f} {row['training']['median_ms']:8.1f} ms")
    print(save(NAME, options.rounds, rows, pages_kept=bool(kept)))


if __name__ == "__main__":
    main()
