"""`resfu figure`: the figures of the paper for any images and networks."""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from resfu.cli.arguments import Parser, positive
from resfu.cli.networks import Network, add_options, find_networks
from resfu.data.image_files import PHOTO_SUFFIXES, UnreadableFileError, read_image
from resfu.tasks.files import find_files
from resfu.visualize import Picture, figures, save_sheet


@dataclass(frozen=True)
class _Look:
    """The input of one figure: a photo and what to show of it.

    Attributes:
        photo: the photo at its own size.
        small: the photo at the size that the networks see.
        stem: folder and first part of the output files' names.
        slot: name of the slot to show; None for the one with the highest ratio.
        pixels: (Y, X) of the photo's pixels to explain; empty to choose some.
    """

    photo: Picture
    small: Picture
    stem: Path
    slot: str | None
    pixels: Sequence[tuple[int, int]]

    @property
    def rgb(self) -> Tensor:
        return torch.from_numpy(self.small).permute(2, 0, 1).float() / 255

    def calls(self, network: Network, photo: Picture) -> dict[str, figures.SlotCall]:
        """One pass of the small photo through the network, on maps that show `photo`."""
        return figures.slot_calls(network.host, network.image(self.rgb), (photo.shape[0], photo.shape[1]))

    def file(self, *words: str) -> Path:
        return self.stem.with_name("-".join([self.stem.name, *words]) + ".png")


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu figure`; returns 1 when an image was skipped, else 0."""
    options = _parser().parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    places = [*options.images, *filter(None, [options.image])]
    if not places:
        raise ValueError("which photos? Give image files, or folders of them.")
    images = find_files(places, PHOTO_SUFFIXES, "image")
    options.output.mkdir(parents=True, exist_ok=True)
    networks = find_networks(options, _FIGURES[options.figure].upsamplers)
    for network in networks:
        print(f"{network.label}: {network.origin}")
    untrained = [network.label for network in networks if network.kernels_are_untrained]
    if untrained:
        print(f"{', '.join(untrained)}: untrained kernels are near uniform; `make demo` trains some")
    skipped = 0
    for name, path in images.items():
        try:
            photo = read_image(path)
        except UnreadableFileError as error:
            if options.on_error == "raise":
                raise
            print(f"resfu: skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        stem = options.output / f"{name}-{options.figure}"
        look = _Look(photo, _shrunk(photo, options.longest_side), stem, options.slot, getattr(options, "pixels", ()))
        for file in _FIGURES[options.figure].draw(look, networks):
            print(file)
    return 1 if skipped else 0


def _shrunk(photo: Picture, longest_side: int) -> Picture:
    image = Image.fromarray(photo)
    image.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS)
    return np.array(image)


def _features(look: _Look, networks: Sequence[Network]) -> list[Path]:
    calls = [figures.choose_call(look.calls(network, look.small), look.slot) for network in networks]
    columns = {}
    for network, call, basis in zip(networks, calls, figures.shared_colours([[call] for call in calls]), strict=True):
        pictures = columns[network.title] = figures.feature_pictures(call, basis)
        if call.resfu:  # of a chain the step with the finest output
            pictures["kernels"] = figures.kernel_picture(look.small, call.resfu[-1])
        prediction = network.prediction(network.image(look.rgb))
        if prediction is not None:
            pictures["prediction"] = prediction
    same = all(torch.equal(call.features, calls[0].features) for call in calls)
    rows = figures.feature_sheet(look.small, columns, same)
    origins: dict[str, list[str]] = {}
    for network in networks:
        origins.setdefault(network.origin, []).append(network.label)
    caption = "\n".join(f"{', '.join(labels)}: {origin}" for origin, labels in origins.items())
    return [save_sheet(rows, f"features at {calls[0].words}", look.file(), caption)]


def _explain(look: _Look, call: figures.ReSFUCall, network: Network) -> list[Path]:
    explanation = figures.explain_call(call)
    pixels = look.pixels or explanation.telling_pixels()
    title = f"{network.title} at {call.words}"
    sheets = {
        "maps": figures.map_sheet(look.photo, explanation, pixels),
        "kernels": figures.kernel_sheet(look.photo, explanation, pixels),
    }
    return [save_sheet(rows, title, look.file(network.label, name), network.origin) for name, rows in sheets.items()]


def _neighbours(look: _Look, call: figures.ReSFUCall, network: Network) -> list[Path]:
    rows = figures.neighbour_sheet(look.photo, call, figures.compare_neighbours(call))
    title = f"{network.title} at {call.words}, same weights"
    return [save_sheet(rows, title, look.file(network.label), network.origin)]


def _iterative(look: _Look, call: figures.ReSFUCall, network: Network) -> list[Path]:
    made = figures.iterate_call(call)
    guided = "each guided by the network's map of its size" if made.own_guides else "guidance averaged down"
    title = f"{network.title} at {call.words}, in steps of ×2 ({guided}) and direct, same weights"
    rows = figures.iterative_sheet(look.photo, call, made)
    return [save_sheet(rows, title, look.file(network.label), network.origin)]


def _of_each_resfu(
    draw: Callable[[_Look, figures.ReSFUCall, Network], list[Path]],
) -> Callable[[_Look, Sequence[Network]], list[Path]]:
    """Figures of the ReSFU modules; if there are several networks, those without ReSFU are left out."""

    def draw_all(look: _Look, networks: Sequence[Network]) -> list[Path]:
        files: list[Path] = []
        for network in networks:
            calls = look.calls(network, look.photo)
            if len(networks) > 1 and not any(call.resfu for call in calls.values()):
                print(f"{network.label}: no ReSFU in it, left out")
                continue
            files += draw(look, figures.choose_call(figures.resfu_calls(calls.values()), look.slot), network)
        if not files:
            raise ValueError("no ReSFU in any of the networks: give a checkpoint with ReSFU, or --upsamplers resfu.")
        return files

    return draw_all


@dataclass(frozen=True)
class _Figure:
    """A figure: what it shows, how it is drawn, and the upsamplers that it shows by default."""

    summary: str
    draw: Callable[[_Look, Sequence[Network]], list[Path]]
    upsamplers: tuple[str, ...] = ("resfu",)


_FIGURES = {
    "features": _Figure(
        "features of several upsamplers side by side, with kernels and predictions (Fig. 8)",
        _features,
        ("bilinear", "resfu"),
    ),
    "explain": _Figure(
        "queries, keys, similarity scores and kernels of ReSFU (Figs. 6 and 16)", _of_each_resfu(_explain)
    ),
    "neighbours": _Figure(
        "ReSFU with and without fine neighbour selection, FNS (Fig. 17)", _of_each_resfu(_neighbours)
    ),
    "iterative": _Figure("ReSFU in one direct step and in a chain of x2 steps (Fig. 22)", _of_each_resfu(_iterative)),
}


def _pixel(text: str) -> tuple[int, int]:
    try:
        y, x = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected Y,X in image pixels such as 120,200, got {text!r}") from None
    return y, x


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu figure",
        description="Make the pictures of the paper (arXiv 2407.02283) for any images and networks, as PNG files.",
    )
    commands = parser.add_subparsers(dest="figure", metavar="FIGURE", required=True)
    for name, figure in _FIGURES.items():
        command = commands.add_parser(name, help=figure.summary, description=f"Show the {figure.summary}.")
        add = command.add_argument
        add("images", nargs="*", metavar="IMAGE", help="image files, and folders of them")
        add("--image", metavar="FILE", help=argparse.SUPPRESS)  # as in version 0.1, until 0.3
        add("--output", type=Path, default=Path("figures"), metavar="DIR", help="folder for the PNG files (figures)")
        add_options(command, figure.upsamplers)
        add("--slot", metavar="NAME", help="which upsampler of the network (the one with the highest ratio)")
        words = "shrink larger photos for the network (640)"
        add("--longest-side", type=positive, default=640, metavar="N", help=words)
        if name == "explain":
            words = "pixels of the photo to explain (default: two where it acts least like bilinear, one where most)"
            add("--pixels", type=_pixel, nargs="+", default=(), metavar="Y,X", help=words)
        words = "at an unreadable image: name it, go on and exit with 1, or stop (skip)"
        add("--on-error", choices=["skip", "raise"], default="skip", help=words)
        add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    return parser
