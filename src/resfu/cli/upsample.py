"""`resfu upsample`: show the features of photos before and after upsampling."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from resfu.cli.arguments import Parser, positive, upsamplers
from resfu.compare.photo import Source, find_source, upsample_photo
from resfu.data.image_files import UnreadableFileError, read_image
from resfu.files.atomic import replacing
from resfu.tasks.files import find_files
from resfu.tasks.loading import find_weights
from resfu.tasks.photos import SUFFIXES
from resfu.upsamplers import UPSAMPLERS

_DEMO = Path("runs/demo")


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu upsample`; returns 1 when an image was skipped, else 0."""
    options = _parser().parse_args(argv)
    if options.threads:
        torch.set_num_threads(options.threads)
    images = find_files(options.images, SUFFIXES, "image")
    sources = _sources(options.upsamplers, options.checkpoint)
    output = Path(options.output)
    output.mkdir(parents=True, exist_ok=True)
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
        file = output / f"{name}-features.png"
        picture = upsample_photo(photo, sources, path.name, options.longest_side)
        with replacing(file) as draft:
            picture.save(draft, optimize=True)
        print(file)
    return 1 if skipped else 0


def _sources(upsamplers: Sequence[str], checkpoint: Path | None) -> dict[str, Source]:
    """The networks to look through; says of each where its weights come from."""
    if checkpoint:
        weights = find_weights(checkpoint)
        if not weights.keys() & set(upsamplers):
            has = ", ".join(weights) or "no finished run"
            raise ValueError(f"{checkpoint} has weights for {has}, not for {', '.join(upsamplers)}.")
    else:
        weights = find_weights(_DEMO) if _DEMO.is_dir() else {}
    sources = {name: find_source(name, weights) for name in upsamplers}
    for name, source in sources.items():
        print(f"{name}: {source.origin}")
    learned = [name for name, source in sources.items() if not source.trained and source.learns]
    if learned:
        print(
            f"{', '.join(learned)}: without training the kernels are near uniform; `make demo` trains some, or give "
            "--checkpoint"
        )
    return sources


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu upsample",
        description="Show the features of photos before and after upsampling, their three main components as colours: "
        "one PNG sheet each. An image that cannot be read is named, the others are still done, and the exit code is 1.",
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="image files, or folders of them")
    names = ", ".join(UPSAMPLERS)
    add("--upsamplers", type=upsamplers, default=("bilinear", "resfu"), metavar="A,B", help=f"all, or of {names}")
    add(
        "--checkpoint",
        type=Path,
        metavar="PATH",
        help="output folder of `resfu compare`, run folder of `resfu fit`, or a .ckpt file (default: "
        f"{_DEMO} where it is there; an upsampler without trained weights is shown as it is before training, and the "
        "sheet says so)",
    )
    add("--output", default="features", metavar="DIR", help="folder for NAME-features.png (features)")
    add("--longest-side", type=positive, default=640, metavar="N", help="shrink larger photos to so many pixels (640)")
    add("--on-error", choices=["skip", "raise"], default="skip", help="what an unreadable image leads to (skip)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    return parser
