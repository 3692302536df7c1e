"""The options of `resfu predict`, and what of the settings they stand for."""

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

_OVERLAP = 3  # windows overlap by this part of their side unless --stride says otherwise


def add_options(parser: LightningArgumentParser) -> None:
    """Add them to the parser of the command."""
    add = parser.add_argument
    add("images", type=str, nargs="*", help="image files (or scans) and folders of these")
    add("--output", type=str, default="predictions", help="folder for the label maps")
    add("--on_error", "--on-error", choices=["raise", "skip"], default="raise", help="at an unreadable image")
    words = "shrink larger photos to this for the network; label maps have the photo's size all the same"
    add("--longest_side", "--longest-side", type=int | None, help=words)
    words = "let the network see the photo in windows of N x N pixels that overlap; for photos larger than it knows"
    add("--window", type=int | None, help=words)
    add("--stride", type=int | None, help="from one window to the next, in pixels (two thirds of the window)")
    parser.link_arguments("images", "data.images")
    parser.link_arguments("on_error", "data.on_error")


def apply_options(config: Namespace, label_maps: bool) -> None:
    """Write the size that the network sees, and its windows, into the settings of data and task.

    Args:
        config: parsed; changed in place.
        label_maps: whether label maps are predicted, and not objects.

    Raises:
        ValueError: for options that don't belong to these predictions or to one another.
    """
    values = {f"--{name.replace('_', '-')}": config[name] for name in ("longest_side", "window", "stride")}
    given = [option for option, value in values.items() if value is not None]
    if not given:
        return
    for option in given:
        if values[option] < 1:
            raise ValueError(f"{option} must be at least 1 pixel, got {values[option]}.")
    if not label_maps:
        raise ValueError(f"{given[0]} is for label maps; networks that find objects resize photos themselves.")
    if config.data.augmentation == "slice":
        raise ValueError(f"{given[0]} is for photos; the slices of a scan are resized to data.crop_size.")
    if config.longest_side is not None:
        config.data.longest_side = config.longest_side
    if config.window is None:
        if config.stride is not None:
            raise ValueError("--stride is the step of windows: give --window, their size, too.")
        return
    stride = config.stride or max(1, config.window - config.window // _OVERLAP)
    config.model.inference.mode = "slide"
    config.model.inference.crop_size = (config.window, config.window)
    config.model.inference.stride = (stride, stride)
