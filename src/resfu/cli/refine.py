"""`resfu refine`: bring a small mask to the size of its image, along the image's edges."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console

from resfu.cli.arguments import Parser, positive
from resfu.data.image_files import read_image, read_stored
from resfu.deploy.refinement import refine
from resfu.files.atomic import replacing


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu refine`; returns the exit code."""
    options = _parser().parse_args(argv)
    if Path(options.mask).is_dir():
        raise ValueError(f"{options.mask} is a folder: give one mask and its image.")
    target = Path(options.output or Path(options.mask).with_name(f"{Path(options.mask).stem}-refined.png"))
    if target.suffix.lower() != ".png":
        raise ValueError(f"--output is a PNG file, which keeps numbers as they are: end {target} in .png.")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.method == "upsampler" and not options.fit:
        raise ValueError("--method upsampler is fitted to the image: give --fit N, the steps (100, for example).")
    stored = read_stored(Path(options.mask))
    palette = stored.getpalette() if stored.mode == "P" else None
    if stored.mode not in ("P", "L", "1"):
        raise ValueError(
            f"{options.mask} has the mode {stored.mode}; a mask is a grey or palette picture, a number a pixel."
        )
    if options.soft and stored.mode != "L":
        raise ValueError(f"--soft is for grey pictures of 256 levels, and {options.mask} has the mode {stored.mode}.")
    mask = torch.from_numpy(np.array(stored))
    image = torch.from_numpy(read_image(Path(options.image))).permute(2, 0, 1)
    soft = options.soft
    values = mask[None, None].float() / 255 if soft else mask
    chosen = {} if options.rounds is None else {"rounds": options.rounds}
    with Console(stderr=True).status("refining"):
        out = refine(values, image, method=options.method, fit=options.fit, report=print, **chosen)
    pixels = out[0, 0].clamp(0, 1).mul(255).round().to(torch.uint8) if soft else out
    picture = Image.fromarray(pixels.numpy())
    if palette is not None:
        picture.putpalette(palette)
    with replacing(target) as draft:
        picture.save(draft, format="PNG")
    print(target)
    return 0


def _parser() -> Parser:
    parser = Parser(
        prog="resfu refine",
        description="Bring a small mask or label map to the size of its image, its edges where the image has its own.",
    )
    add = parser.add_argument
    add("mask", metavar="MASK", help="PNG with one number a pixel: a mask, or a label map (its palette is kept)")
    add("image", metavar="IMAGE", help="the image that it belongs to")
    add("--output", metavar="FILE", help="PNG to write (MASK-refined.png beside the mask)")
    add("--method", choices=["guided", "bilateral", "upsampler"], default="guided", help="see docs/large_images.md")
    add("--soft", action="store_true", help="the numbers are shares from 0 to 255, not labels")
    add("--fit", type=positive, default=0, metavar="N", help="for 'upsampler': steps of fitting it to this image")
    add("--rounds", type=int, metavar="N", help="of back-projection (2)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    return parser
