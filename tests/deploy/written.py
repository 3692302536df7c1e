"""Writes files with `resfu.export` in a process of its own, and prints what became of each as a line of JSON.

Usage: written.py FOLDER "CASE.SUFFIX" ...

The shape checks that pytest's hook adds to the package break graph capture, and users do not have them.
"""

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import resfu
import resfu.deploy.export as export
import resfu.deploy.export_runtimes as runtimes

CASES = {
    "resfu x4": ("resfu", {"scale_factor": 4}, (6, 5), (24, 20), True),
    "carafe x2": ("carafe", {"scale_factor": 2}, (6, 5), (12, 10), True),
    "sapa x1.5": ("sapa", {}, (6, 8), (9, 12), "ratio"),
    "a2u x2": ("a2u", {}, (8, 6), (16, 12), True),
    "bilinear": ("bilinear", {"scale_factor": 2}, (6, 5), (12, 10), True),
}


def made(name: str) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], object]:
    """The upsampler of a case, an example of one image, and which sizes are open."""
    method, options, low, high, dynamic = CASES[name]
    torch.manual_seed(0)
    up = resfu.create_upsampler(method, channels=32, guidance_channels=32, **options).eval()
    with torch.no_grad():
        for parameter in up.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    maps = torch.randn(1, 32, *low), torch.randn(1, 32, *high)
    return up, maps[: 1 + up.guided], dynamic


def others(name: str, up: torch.nn.Module) -> list[tuple[torch.Tensor, ...]]:
    """Inputs of batches and sizes that the export did not see."""
    _, _, (h, w), (H, W), _ = CASES[name]
    sizes = [
        ((7, 9), (7 * H // h, 9 * W // w)),
        ((3, 4), (3 * H // h, 4 * W // w)),
        ((11, 5), (11 * H // h, 5 * W // w)),
    ]
    batches = (3, 1, 2)
    return [
        (torch.randn(b, 32, *low), torch.randn(b, 32, *high))[: 1 + up.guided]
        for b, (low, high) in zip(batches, sizes, strict=True)
    ]


def captured_once(cases: list[str]) -> None:
    """Let the runtimes share the program of a case, and its conversion to ONNX: both take longer than all the rest."""
    program_of, onnx_program = export.program_of, runtimes.onnx_program
    programs: dict[Any, Any] = {}

    def once(key: Any, make: Callable[[], Any]) -> Any:
        if key not in programs:
            programs[key] = make()
        return programs[key]

    export.program_of = lambda module, shapes, largest: once(
        (cases[-1], largest, shapes.inputs[0].shape), lambda: program_of(module, shapes, largest)
    )
    runtimes.onnx_program = lambda program: once(program, lambda: onnx_program(program))


def main(folder: Path, files: list[str]) -> None:
    """Write each file, and the inputs and outputs for a process without the package."""
    torch.set_num_threads(1)
    gc.freeze()  # a search for garbage among all that is imported and captured takes a seventh of the time
    gc.set_threshold(100_000, 20, 100)
    cases: list[str] = []
    captured_once(cases)
    for file in files:
        name, suffix = Path(file).stem, Path(file).suffix
        cases.append(name)
        up, maps, dynamic = made(name)
        path = folder / file.replace(" ", "-")
        try:
            resfu.export(up, maps, path, dynamic)
            with torch.no_grad():
                tests = [(x, up(*x)) for x in others(name, up)]
            torch.save(tests, path.with_suffix(suffix + ".tests"))
            print(json.dumps({file: path.name}), flush=True)
        except ValueError as error:
            print(json.dumps({file: f"refused: {error}"}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
