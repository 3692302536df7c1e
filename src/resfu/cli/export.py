"""`resfu export`: an upsampler or a trained network as a file for another runtime."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from resfu.cli.arguments import Parser, positive, size
from resfu.deploy.export import export
from resfu.deploy.export_runtimes import RUNTIMES
from resfu.upsamplers import UPSAMPLERS, create_upsampler

_DTYPES = {"float32": torch.float32, "float16": torch.float16}


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu export`; returns the exit code."""
    options = _parser().parse_args(argv)
    if (options.upsampler is None) == (options.checkpoint is None):
        raise ValueError("what is to be exported? Give --upsampler NAME or --checkpoint PATH, one of them.")
    module, inputs = _network(options) if options.checkpoint else _upsampler(options)
    dynamic = {"sizes": True, "ratio": "ratio", "none": False}[options.dynamic]
    with Console(stderr=True).status(f"writing {options.output}, and running it"):
        path = export(module, inputs, options.output, dynamic, _DTYPES[options.dtype])
    sizes = "the given size and on another" if dynamic else "the given size"
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, equal to PyTorch on {sizes}")
    return 0


def _network(options: argparse.Namespace) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    from resfu.loading import load

    return load(options.checkpoint).host.eval(), (torch.randn(options.batch, 3, *options.size),)


def _upsampler(options: argparse.Namespace) -> tuple[torch.nn.Module, tuple[torch.Tensor, ...]]:
    method, (h, w), ratio = UPSAMPLERS[options.upsampler], options.size, options.ratio
    guides = 3 if method.image_guided else options.guidance_channels
    up = create_upsampler(options.upsampler, channels=options.channels, guidance_channels=guides, scale_factor=ratio)
    features = torch.randn(options.batch, options.channels, h, w)
    if not method.guided:
        return up.eval(), (features,)
    return up.eval(), (features, torch.randn(options.batch, guides, ratio * h, ratio * w))


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu export",
        description="Write an upsampler or a trained network to a file that runs without Python and this package, and "
        "run it there once: it is kept where it agrees with PyTorch.",
    )
    add = parser.add_argument
    endings = ", ".join(f"{suffix} {runtime.name}" for suffix, runtime in RUNTIMES.items())
    add("--output", type=Path, required=True, metavar="FILE", help=f"its ending names the runtime: {endings}")
    add("--checkpoint", type=Path, metavar="PATH", help="run folder of `resfu fit`, or a .ckpt file")
    add("--upsampler", choices=list(UPSAMPLERS), metavar="NAME", help=f"untrained: one of {', '.join(UPSAMPLERS)}")
    add("--channels", type=positive, default=256, metavar="N", help="of its features (256)")
    add("--guidance-channels", type=positive, default=64, metavar="N", help="of its guidance (64); an image has 3")
    add("--ratio", type=positive, default=2, metavar="N", help="of the output to the features (2)")
    add("--size", type=size, default=(32, 32), metavar="N | HxW", help="of the example: features, or images (32x32)")
    add("--batch", type=positive, default=1, metavar="N", help="of the example (1)")
    add("--dynamic", choices=["sizes", "ratio", "none"], default="sizes", help="what stays open (sizes, batch too)")
    add("--dtype", choices=list(_DTYPES), default="float32", help="of weights and inputs (float32)")
    return parser
