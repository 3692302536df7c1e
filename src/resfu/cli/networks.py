"""The networks that `resfu figure` shows: trained ones from their files, or untrained ones."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resfu.cli.arguments import upsamplers
from resfu.evaluation.cost import count_parameters
from resfu.hosts import HOSTS, create_host
from resfu.tasks.loading import find_weights, load_module
from resfu.training.module import TrainingModule
from resfu.upsamplers import UPSAMPLERS, Upsampler
from resfu.visualize import Picture

_HOST = "efficientnet-lite0"
_DEMO = Path("runs/demo")


@dataclass(frozen=True)
class Network:
    """A network to show.

    Attributes:
        label: the network's part of file names.
        title: the network's name in the titles of pictures.
        origin: where its weights come from, in words.
        host: the network itself, in evaluation mode.
        module: the training module of a trained network, which knows the predicted classes; else None.
    """

    label: str
    title: str
    origin: str
    host: Any
    module: TrainingModule | None = None

    @property
    def kernels_are_untrained(self) -> bool:
        """Whether the network is untrained and one of its upsamplers has parameters."""
        found = (module for module in self.host.modules() if isinstance(module, Upsampler))
        return self.module is None and any(count_parameters(module) for module in found)

    def image(self, rgb: Tensor) -> Tensor:
        """A photo [3, H, W] in 0..1, normalised as the network expects it."""
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.host.mean, self.host.std))
        return (rgb - mean) / std

    @torch.no_grad()
    def prediction(self, image: Tensor) -> Picture | None:
        """A trained network's prediction for an image [3, H, W] as a picture; None if there is no picture of it."""
        return None if self.module is None else self.module.picture(image)


def add_options(command: argparse.ArgumentParser, default: Sequence[str]) -> None:
    """Add the options that choose networks.

    Args:
        command: a figure's parser.
        default: the upsamplers to show when none is named.
    """
    add = command.add_argument
    add(
        "--checkpoint",
        "--ckpt_path",
        type=Path,
        nargs="+",
        action="extend",
        metavar="PATH",
        help="trained networks: .ckpt files, output folders of `resfu compare`, or run folders of `resfu fit` "
        f"(default: {_DEMO} where it is there)",
    )
    words = f"those to show ({', '.join(default)}; with --checkpoint, all in it): all, or of {', '.join(UPSAMPLERS)}"
    add("--upsamplers", type=upsamplers, metavar="A,B", help=words)
    words = f"an untrained network instead; also for upsamplers without trained weights ({_HOST}), of "
    add("--host", choices=list(HOSTS), metavar="NAME", help=words + ", ".join(HOSTS))
    yes_no = argparse.BooleanOptionalAction
    add("--pretrained", action=yes_no, help=f"ImageNet weights in its encoder (default: for {_HOST})")


def find_networks(options: argparse.Namespace, default: Sequence[str]) -> list[Network]:
    """The networks that the options choose.

    Args:
        options: of the command.
        default: as in `add_options`.

    Raises:
        ValueError: for options that exclude each other, or checkpoints without weights for the networks to show.
    """
    given = [f"--{name}" for name in ("host", "pretrained") if getattr(options, name) is not None]
    if options.checkpoint is None:
        trained = _trained([_DEMO]) if _DEMO.is_dir() and not given else []
        return _chosen(options.upsamplers or default, trained, options)
    if given:
        raise ValueError(f"--checkpoint brings its own network: leave {', '.join(given)} out.")
    trained = _trained(options.checkpoint)
    places = ", ".join(map(str, options.checkpoint))
    if not trained:
        raise ValueError(f"no finished run in {places}.")
    if options.upsamplers is None:
        return [network for _, network in trained]
    has = {name for name, _ in trained}
    if not has & set(options.upsamplers):
        raise ValueError(f"{places} has weights for {', '.join(sorted(has))}, not for {', '.join(options.upsamplers)}.")
    return _chosen(options.upsamplers, trained, options)


def _chosen(names: Sequence[str], trained: Sequence[tuple[str, Network]], options: argparse.Namespace) -> list[Network]:
    """All trained networks of each name, or else an untrained one."""
    networks = []
    for name in names:
        networks += [network for own, network in trained if own == name] or [_untrained(name, options)]
    return networks


def _trained(places: Sequence[Path]) -> list[tuple[str, Network]]:
    found = [(name, file) for place in places for name, file in find_weights(place).items()]
    networks = []
    for n, (name, file) in enumerate(found):
        earlier = sum(other == name for other, _ in found[:n])
        label = f"{name}-{earlier + 1}" if earlier else name
        module = load_module(file)
        networks.append((name, Network(label, label, f"trained, {file}", module.host, module)))
    return networks


def _untrained(name: str, options: argparse.Namespace) -> Network:
    host_name = options.host or _HOST
    pretrained = host_name == _HOST if options.pretrained is None else options.pretrained
    encoder = "ImageNet weights" if pretrained else "random weights"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # everything but the upsampler starts the same
        host = create_host(host_name, name, num_classes=2, pretrained=pretrained).eval()
    origin = f"untrained: {host_name}, encoder with {encoder}, head and upsampler with random ones"
    return Network(name, f"{name} (untrained)", origin, host)
