"""What redirecting costs a forward pass, side by side: the original, `resfu.upgrade(net, "same")`, a function mode.

    python -m benchmarks.upgrade_overhead [--rounds 60]

The network is the U-Net of segmentation-models-pytorch (ResNet-18) at 256 x 256, on one thread that keeps its pages.
Each round runs all of them, in another order each time; the ratio is the median of the rounds' ratios to the original
of the same round. A second copy of the original tells how far apart equal networks are measured. The mode is a
`TorchFunctionMode` that looks at every function and passes it on, around the forward of each module in which a place
lies. "calls" is what the redirecting itself takes: the five calls of a pass without the work that they ask for.
"""

import argparse
import statistics
import time
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from benchmarks.results import save
from resfu import find_upsampling, keep_pages, upgrade
from resfu.upgrading.network import RECORD

ORIGINAL = "original"


class Looking(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return func(*args, **(kwargs or {}))


def with_mode(model: nn.Module, images: torch.Tensor) -> nn.Module:
    for place in find_upsampling(model, images):
        owner = model.get_submodule(place.owner)
        forward = owner.forward

        def watched(*args: Any, forward: Any = forward, **kwargs: Any) -> Any:
            with Looking():
                return forward(*args, **kwargs)

        owner.forward = watched
    return model


def in_turn(networks: dict[str, nn.Module], images: torch.Tensor, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of every round, after two to warm up."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    names = list(networks)
    with torch.no_grad():
        for n in range(rounds + 2):
            first = n % len(names)
            for name in names[first:] + names[:first]:
                began = time.perf_counter()
                networks[name](images)
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: values[2:] for name, values in times.items()}


def redirecting(model: nn.Module, images: torch.Tensor, rounds: int = 200) -> float:
    """Median milliseconds of a pass's redirected calls, with a function in place of the interpolation that is free."""
    owners = [part.__dict__[RECORD].owner for part in model.modules() if RECORD in part.__dict__]
    owners, state = [owner for owner in owners if owner is not None], model.__dict__[RECORD].root
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        state.open(training=False)
        for owner in owners:
            for _ in owner.calls:
                owner.resample(lambda x, **options: x, (images,), {"scale_factor": 2, "mode": "nearest"})
        state.close()
        taken.append(1e3 * (time.perf_counter() - began))
    return statistics.median(taken)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    kept = keep_pages()
    images = torch.randn(1, 3, 256, 256)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return smp.Unet("resnet18", encoder_weights=None).eval()

    networks = {
        ORIGINAL: network(),
        "original again": network(),
        "redirected": upgrade(network(), "same", images),
        "function mode": with_mode(network(), images),
    }
    times = in_turn(networks, images, rounds)
    rows = []
    for name, values in times.items():
        ratios = [a / b for a, b in zip(values, times[ORIGINAL], strict=True)]
        rows.append({"name": name, "median_ms": statistics.median(values), "ratio": statistics.median(ratios)})
    calls = redirecting(networks["redirected"], images)
    rows.append({"name": "calls", "median_ms": calls, "ratio": calls / statistics.median(times[ORIGINAL])})
    for row in rows:
        print(row)
    print("written to", save("upgrade-overhead", rounds, rows, kept))


if __name__ == "__main__":
    main()
