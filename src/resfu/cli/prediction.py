"""The options of `resfu predict`, and the settings that they stand for."""

import argparse
from typing import TYPE_CHECKING, Any

from resfu.cli.arguments import positive
from resfu.recipes import merge, nested

if TYPE_CHECKING:
    from resfu.tasks import Task

_OVERLAP = 3  # windows overlap by this part of their side unless --stride says otherwise


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to the parser of the command."""
    add = parser.add_argument
    add("images", nargs="+", metavar="FILE", help="image files (or scans), and folders of these")
    add("--output", default="predictions", metavar="DIR", help="folder for what is written (predictions)")
    add(
        "--on-error",
        "--on_error",
        choices=["raise", "skip"],
        default="raise",
        help="what to do at an unreadable file (raise)",
    )
    photos = parser.add_argument_group("label maps of photos")
    photos.add_argument("--overlay", action="store_true", help="write them over their photos too, with a legend")
    words = "shrink larger photos to this for the network; label maps have the photo's size all the same"
    photos.add_argument("--longest-side", "--longest_side", type=positive, metavar="N", help=words)
    words = "let the network see the photo in overlapping windows of N x N pixels, for large photos"
    photos.add_argument("--window", type=positive, metavar="N", help=words)
    words = "from one window to the next, in pixels (two thirds of the window)"
    photos.add_argument("--stride", type=positive, metavar="N", help=words)
    scans = parser.add_argument_group("scans")
    words = "what to do about voxels that are NaN or infinite (error)"
    scans.add_argument("--nonfinite", choices=["error", "fill"], help=words)
    words = "value for --nonfinite fill (the low end of the CT window, of MRI the least finite value)"
    scans.add_argument("--fill-value", "--fill_value", type=float, metavar="V", help=words)


def chosen(options: argparse.Namespace, task: "Task") -> dict[str, Any]:
    """The settings that the options stand for.

    Args:
        options: the parsed options.
        task: the network's task.

    Raises:
        ValueError: for options that don't belong to these predictions or to one another.
    """
    for name in ("longest_side", "window", "stride"):
        if getattr(options, name) is not None and task.seen_size:
            raise ValueError(f"--{name.replace('_', '-')} is not for {task.written}: {task.seen_size}.")
    given = {key: getattr(options, key) for key in ("on_error", "nonfinite", "fill_value", "longest_side")}
    settings = merge(*(nested(f"data.{key}", value) for key, value in given.items() if value is not None))
    if options.window is None:
        if options.stride is not None:
            raise ValueError("--stride is the step of windows: give --window, their size, too.")
        return settings
    stride = options.stride or max(1, options.window - options.window // _OVERLAP)
    inference = {"mode": "slide", "crop_size": [options.window] * 2, "stride": [stride] * 2}
    return merge(settings, nested("model.inference", inference))
