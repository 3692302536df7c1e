"""`resfu figure`: the figures of the paper for any image and network."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resfu.cli.arguments import Parser, positive, upsamplers
from resfu.data.image_files import read_image
from resfu.hosts import HOSTS, create_host
from resfu.tasks.loading import find_weights, load_module
from resfu.tasks.pictures import FeaturePair, shared_colours
from resfu.training.module import TrainingModule
from resfu.upsamplers import UPSAMPLERS
from resfu.visualize import Picture, figures

_HOST = "efficientnet-lite0"


@dataclass(frozen=True)
class _Network:
    """A network to look through, what to call it, and in words where its weights come from.

    A trained one brings its task's module, which knows the classes that it predicts.
    """

    label: str
    title: str
    origin: str
    host: Any
    module: TrainingModule | None = None

    @torch.no_grad()
    def prediction(self, image: Tensor) -> Picture | None:
        """What a trained network says of an image [3, H, W], in colours; None where it has no colours for it."""
        return None if self.module is None else self.module.picture(image)


@dataclass(frozen=True)
class _Look:
    """What one figure is made of: the photo, the image that a network sees, and where the figure goes."""

    photo: Picture
    rgb: Tensor
    stem: Path
    slot: str | None
    pixels: Sequence[tuple[int, int]]

    def image(self, host: Any) -> Tensor:
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (host.mean, host.std))
        return (self.rgb - mean) / std

    def calls(self, host: Any) -> dict[str, figures.SlotCall]:
        return figures.slot_calls(host, self.image(host), (self.photo.shape[0], self.photo.shape[1]))

    def file(self, *words: str) -> Path:
        return self.stem.with_name("-".join([self.stem.name, *words]) + ".png")


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu figure`; returns the exit code."""
    options = _parser().parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    photo = read_image(options.image)
    small = Image.fromarray(photo)
    small.thumbnail((options.longest_side, options.longest_side), Image.Resampling.LANCZOS)
    rgb = torch.from_numpy(np.array(small)).permute(2, 0, 1).float() / 255
    stem = options.output / f"{options.image.stem}-{options.figure}"
    look = _Look(photo, rgb, stem, options.slot, getattr(options, "pixels", None) or ())
    networks = _networks(options)
    for network in networks:
        print(f"{network.label}: {network.origin}")
    features = options.figure == "features"
    for file in _features(look, networks) if features else _mechanism(look, networks, options.figure):
        print(file)
    return 0


def _features(look: _Look, networks: Sequence[_Network]) -> list[Path]:
    calls = [figures.choose_call(look.calls(network.host), look.slot) for network in networks]
    pairs = [[FeaturePair(call.features[0], call.output[0], call.frame.share)] for call in calls]
    columns = {}
    for network, call, basis in zip(networks, calls, shared_colours(pairs), strict=True):
        pictures = columns[network.title] = figures.feature_pictures(call, basis)
        prediction = network.prediction(look.image(network.host))
        if prediction is not None:
            pictures["prediction"] = prediction
    same = all(torch.equal(call.features, calls[0].features) for call in calls)
    rows = figures.feature_sheet(look.photo, columns, same)
    origins: dict[str, list[str]] = {}
    for network in networks:
        origins.setdefault(network.origin, []).append(network.label)
    caption = "\n".join(f"{', '.join(labels)}: {origin}" for origin, labels in origins.items())
    return [figures.save_figure(rows, f"features at {calls[0].words}", caption, look.file())]


def _explain(look: _Look, call: figures.ReSFUCall, network: _Network) -> list[Path]:
    explanation = figures.explain_call(call)
    pixels = look.pixels or explanation.telling_pixels()
    title = f"{network.title} at {call.words}"
    sheets = {
        "maps": figures.map_sheet(look.photo, explanation, pixels),
        "kernels": figures.kernel_sheet(look.photo, explanation, pixels),
    }
    return [
        figures.save_figure(rows, title, network.origin, look.file(network.label, name))
        for name, rows in sheets.items()
    ]


def _neighbours(look: _Look, call: figures.ReSFUCall, network: _Network) -> list[Path]:
    rows = figures.neighbour_sheet(look.photo, call, figures.compare_neighbours(call))
    title = f"{network.title} at {call.words}, same weights"
    return [figures.save_figure(rows, title, network.origin, look.file(network.label))]


def _iterative(look: _Look, call: figures.ReSFUCall, network: _Network) -> list[Path]:
    made = figures.iterate_call(call)
    guided = "each guided by the network's map of its size" if made.own_guides else "guidance averaged down"
    title = f"{network.title} at {call.words}, in steps of ×2 ({guided}) and direct, same weights"
    rows = figures.iterative_sheet(look.photo, call, made)
    return [figures.save_figure(rows, title, network.origin, look.file(network.label))]


_MECHANISM: dict[str, Callable[[_Look, figures.ReSFUCall, _Network], list[Path]]] = {
    "explain": _explain,
    "neighbours": _neighbours,
    "iterative": _iterative,
}


def _mechanism(look: _Look, networks: Sequence[_Network], figure: str) -> list[Path]:
    """Figures of the ReSFU modules; of several networks, those without ReSFU are left out."""
    files: list[Path] = []
    for network in networks:
        calls = look.calls(network.host)
        if len(networks) > 1 and not any(call.resfu for call in calls.values()):
            print(f"{network.label}: no ReSFU in it, left out")
            continue
        call = figures.choose_call(figures.resfu_calls(calls.values()), look.slot)
        files += _MECHANISM[figure](look, call, network)
    if not files:
        raise ValueError("no ReSFU in any of the networks: give a checkpoint with ReSFU, or --upsamplers resfu.")
    return files


def _networks(options: argparse.Namespace) -> list[_Network]:
    given = [f"--{name}" for name in ("host", "upsamplers", "pretrained") if getattr(options, name) is not None]
    if options.ckpt_path and given:
        raise ValueError(f"--ckpt_path brings its own network: leave {', '.join(given)} out.")
    return _trained(options.ckpt_path) if options.ckpt_path else _untrained(options)


def _trained(places: Sequence[Path]) -> list[_Network]:
    found = [(name, file) for place in places for name, file in find_weights(place).items()]
    if not found:
        raise ValueError(f"no finished run in {', '.join(map(str, places))}.")
    networks = []
    for n, (name, file) in enumerate(found):
        earlier = sum(other == name for other, _ in found[:n])
        label = f"{name}-{earlier + 1}" if earlier else name
        module = load_module(file)
        networks.append(_Network(label, label, f"trained, {file}", module.host, module))
    return networks


def _untrained(options: argparse.Namespace) -> list[_Network]:
    name_of_host = options.host or _HOST
    pretrained = name_of_host == _HOST if options.pretrained is None else options.pretrained
    encoder = "ImageNet weights" if pretrained else "random weights"
    origin = f"untrained: {name_of_host}, encoder with {encoder}, head and upsampler with random ones"
    networks = []
    for name in options.upsamplers or ("resfu",):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # everything but the upsampler starts the same
            host = create_host(name_of_host, name, num_classes=2, pretrained=pretrained).eval()
        networks.append(_Network(name, f"{name} (untrained)", origin, host))
    return networks


def _pixel(text: str) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected Y,X in image pixels such as 120,200, got {text!r}") from None
    return y, x


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu figure",
        description="Make the pictures of the paper (arXiv 2407.02283) for any image and network, as PNG files.",
    )
    commands = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    for name, summary in {
        "features": "upsampled features of several upsamplers side by side, with predictions (Fig. 8)",
        "explain": "queries, keys, similarity scores and kernels of ReSFU (Figs. 6 and 16)",
        "neighbours": "ReSFU with and without fine neighbour selection, FNS (Fig. 17)",
        "iterative": "ReSFU in one direct step and in a chain of x2 steps (Fig. 22)",
    }.items():
        command = commands.add_parser(name, help=summary, description=f"Show the {summary}.")
        _add_options(command)
        if name == "explain":
            words = "pixels of the photo to explain (default: two where it acts least like bilinear, one where most)"
            command.add_argument("--pixels", type=_pixel, nargs="+", metavar="Y,X", help=words)
    return parser


def _add_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--image", type=Path, required=True, metavar="FILE", help="the photo")
    add("--output", type=Path, default=Path("figures"), metavar="DIR", help="folder for the PNG files (figures)")
    words = "trained networks: .ckpt files, output folders of `resfu compare`, or run folders of `resfu fit`"
    add("--ckpt_path", type=Path, nargs="+", metavar="PATH", help=words)
    words = f"without --ckpt_path, an untrained network ({_HOST}), of {', '.join(HOSTS)}"
    add("--host", choices=list(HOSTS), metavar="NAME", help=words)
    words = f"that it gets (resfu): all, or of {', '.join(UPSAMPLERS)}"
    add("--upsamplers", type=upsamplers, metavar="A,B", help=words)
    yes_no = argparse.BooleanOptionalAction
    add("--pretrained", action=yes_no, help=f"ImageNet weights in its encoder (default: for {_HOST})")
    add("--slot", metavar="NAME", help="which upsampler of the network (the one with the highest ratio)")
    add("--longest-side", type=positive, default=640, metavar="N", help="shrink larger photos for the network (640)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
