"""`python -m benchmarks.deployment`: every upsampler and four hosts in each runtime, at sizes the export never saw.

Writes benchmarks/results/deployment.json after each cell, from which `benchmarks.deployment_table` makes a table. Cells
that this run does not measure stay there; `--missing` measures those alone that are not there or were refused.
Differences are the largest ones from PyTorch, in units of the output's largest value.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import resfu
from benchmarks.results import measured, save
from resfu.deploy.export_runtimes import RUNTIMES

HOSTS = {
    "segformer-mit-b0": {},
    "segmenter-vit-s": {},
    "pspnet-resnet50": {},
    "efficientnet-lite0": {},
}
EVERYWHERE = ("resfu", "carafe", "dysample", "bilinear")  # also where compiling takes minutes
SIZES = ((1, 5, 7), (3, 9, 4), (2, 13, 11))  # batch, height, width of low-resolution features
IMAGES = ((1, 97, 65), (2, 64, 129), (3, 75, 90))


def upsamplers() -> dict[str, tuple[nn.Module, tuple[Tensor, ...], list[tuple[Tensor, ...]]]]:
    """Name to (module, example of one image, inputs of other sizes)."""
    cases = {}
    for name, method in resfu.UPSAMPLERS.items():
        for ratio in (2, 4) if name == "resfu" else (2,):
            torch.manual_seed(0)
            guides = 3 if method.image_guided else 32
            up = resfu.create_upsampler(name, channels=64, guidance_channels=guides, scale_factor=ratio).eval()
            if up.scale_factor is None and not up.guided:
                up.scale_factor = ratio
            with torch.no_grad():
                for parameter in up.parameters():
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)

            def maps(
                batch: int, h: int, w: int, guides: int = guides, ratio: int = ratio, guided: bool = up.guided
            ) -> tuple[Tensor, ...]:
                both = torch.randn(batch, 64, h, w), torch.randn(batch, guides, ratio * h, ratio * w)
                return both[: 1 + guided]

            cases[f"{name} x{ratio}"] = up, maps(1, 8, 6), [maps(*size) for size in SIZES]
    return cases


def hosts(upsampler: str) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], list[tuple[Tensor, ...]]]]:
    """The same for the four networks."""
    cases = {}
    for name, options in HOSTS.items():
        torch.manual_seed(0)
        net = resfu.create_host(name, upsampler=upsampler, num_classes=12, pretrained=False, **options).eval()
        images = [(torch.randn(b, 3, H, W),) for b, H, W in IMAGES]
        cases[f"{name}, {upsampler}"] = net, (torch.randn(1, 3, 96, 128),), images
    return cases


def measure(name: str, case: tuple, suffix: str, folder: Path) -> dict:
    """One cell of the table."""
    module, example, others = case
    runtime, path = RUNTIMES[suffix], folder / f"{name.replace(' ', '-').replace(',', '')}{suffix}"
    start, row = time.process_time(), {"module": name, "runtime": runtime.name}
    try:
        resfu.export(module, example, path)
    except ValueError as error:
        return row | {"refused": str(error)}
    row |= {"seconds": round(time.process_time() - start, 1), "megabytes": round(path.stat().st_size / 1e6, 2)}
    run, differences = runtime.load(path), []
    with torch.no_grad():
        for inputs in others:
            wanted = module(*inputs)
            found = run(inputs)
            if not found.isfinite().all():
                return row | {"refused": f"values that are not finite at {[list(x.shape) for x in inputs]}"}
            differences.append(((found - wanted).abs().max() / wanted.abs().max()).item())
    return row | {"differences": differences}


def main() -> None:
    """Measure and write, a line for each module and runtime."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtimes", nargs="*", choices=list(RUNTIMES), default=list(RUNTIMES))
    parser.add_argument("--hosts", nargs="*", default=["bilinear", "resfu"], help="upsamplers in the hosts")
    parser.add_argument("--modules", nargs="*", default=[], help="beginnings of the names of rows; none: all")
    parser.add_argument("--missing", action="store_true", help="leave cells that a run has measured")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = upsamplers()
    for upsampler in options.hosts:
        cases |= hosts(upsampler)
    cells = {(row["module"], row["runtime"]): row for row in measured("deployment")}
    with tempfile.TemporaryDirectory() as folder:
        for suffix in options.runtimes:
            for name, case in cases.items():
                cell = name, RUNTIMES[suffix].name
                if suffix in (".pte", ".pt2") and name.split()[0] not in EVERYWHERE:
                    continue
                if options.modules and not name.startswith(tuple(options.modules)):
                    continue
                if options.missing and "differences" in cells.get(cell, {}):
                    continue
                cells[cell] = measure(name, case, suffix, Path(folder))
                print(cells[cell], flush=True)
                save("deployment", 1, list(cells.values()))


if __name__ == "__main__":
    main()
