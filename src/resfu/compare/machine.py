"""The machine and the package versions of a comparison."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import torch

_PACKAGES = ("resfu", "torch", "torchvision", "lightning", "torchmetrics", "transformers", "timm", "numpy")


def device_name() -> str:
    """The device in words, such as "CPU, 2 threads" or the GPU's name."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}"


def describe_machine() -> dict[str, str | int]:
    """Device, processor and system, without names that identify the machine."""
    return {
        "device": device_name(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
    }


def describe_versions() -> dict[str, str]:
    """Versions of Python and of the packages that influence the numbers."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"
