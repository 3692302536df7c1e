"""What redirecting costs a forward pass, side by side: the original, `resfu.upgrade(net, "same")`, a function mode.

    python -m benchmarks.upgrade_overhead [--rounds 15]

The network is the U-Net of segmentation-models-pytorch (ResNet-18) at 256 x 256. The mode is a `TorchFunctionMode` that
looks at every function and passes it on, around the forward of each module in which a place lies.
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
from resfu import find_upsampling, upgrade


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    images = torch.randn(1, 3, 256, 256)

    def network() -> nn.Module:
        torch.manual_seed(0)
        return smp.Unet("resnet18", encoder_weights=None).eval()

    networks = {
        "original": network(),
        "redirected": upgrade(network(), "same", images),
        "function mode": with_mode(network(), images),
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(rounds + 2):
            for name, net in networks.items():
                began = time.perf_counter()
                net(images)
                times[name].append(1e3 * (time.perf_counter() - began))
    median = {name: statistics.median(values[2:]) for name, values in times.items()}
    least = {name: min(values[2:]) for name, values in times.items()}
    rows = [
        {
            "name": name,
            "median_ms": median[name],
            "least_ms": least[name],
            "ratio_of_medians": median[name] / median["original"],
            "ratio_of_least": least[name] / least["original"],
        }
        for name in networks
    ]
    for row in rows:
        print(row)
    print("written to", save("upgrade-overhead", rounds, rows))


if __name__ == "__main__":
    main()
