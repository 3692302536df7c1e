"""`resfu compare`: train the same network once per upsampler and seed, and report side by side."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.console import Console

from resfu.cli.arguments import Parser, positive, seeds, size, variants, volume_size
from resfu.compare.kinds import DATA, LABEL_MAPS, PANOPTIC, VOLUMES, Kind, kind_of
from resfu.compare.run import VALIDATIONS
from resfu.compare.runner import compare
from resfu.compare.settings import Settings
from resfu.data import DATASETS
from resfu.data.medical.base import SliceDataset
from resfu.evaluation.published import option_from
from resfu.hosts import HOSTS
from resfu.upsamplers import UPSAMPLERS

# What depends on kind and data unless it is given: (steps, crop, augment); generated data are not cropped.
_SCENES, _VOLUMES, _OTHERS = (300, (192, 192), "flip"), (600, (224, 224), "slice"), (600, (320, 320), "full")
_OBJECTS = (600, None, "flip")
# Learning rates of the head: with a fixed encoder and with one that is trained, and for objects.
_FIXED_RATE, _TRAINED_RATE, _OBJECT_RATE = 5e-3, 6e-4, 1e-3
# Stuff of fewer pixels is void: the part of COCO's images that the 4096 pixels of the published network are.
_STUFF_PART = 72
# Of generated data: their size, and how many to train on and to evaluate on.
_GENERATED = {"scenes": ((192, 192), 400, 100), "ct": ((24, 128, 128), 12, 4), "cardiac": ((10, 128, 128), 20, 8)}


def run(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu compare`; returns the exit code."""
    options = parse(argv)
    settings = settings_of(options)
    try:
        train(settings, options)
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The options in the words after `resfu compare`.

    Raises:
        ValueError: for words that make no sense.
    """
    return _parser().parse_args(argv)


def train(settings: Settings, options: argparse.Namespace) -> dict[str, Any]:
    """Carry out a comparison; returns the content of its results.json."""
    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console()
    return compare(
        settings, options.output, options.overwrite, options.workers, options.pictures, console, options.validations
    )


def settings_of(options: argparse.Namespace) -> Settings:
    """The experiment that the options describe, with what depends on the data filled in.

    Raises:
        ValueError: for options that do not go together.
    """
    scenes = options.data == "scenes"
    slices = issubclass(DATASETS[options.data], SliceDataset) if options.data in DATASETS else False
    host = options.host or ("transunet-small" if slices else "efficientnet-lite0")
    kind = kind_of(host, options.data)
    whole, train_images, val_images = _GENERATED.get(options.data, (None, None, None))
    shapes = {
        "size": scenes,
        "difficulty": scenes,
        "volume_size": slices and whole is not None,
        "train_images": whole is not None,
        "val_images": whole is not None,
        "convention": slices,
    }
    _refuse(options, shapes, f"shape generated scenes or volumes and mean nothing for {options.data}")
    _refuse(
        options,
        {"crop": not kind.objects, "augment": not kind.objects},
        f"mean nothing for {host}, which finds objects",
    )
    _refuse(options, {"host_options": kind.objects}, f"are for hosts that find objects and mean nothing for {host}")
    whole = options.size or options.volume_size or whole
    pretrained = host.endswith("efficientnet-lite0") if options.pretrained is None else options.pretrained
    frozen = pretrained if options.freeze_encoder is None else options.freeze_encoder
    defaults = {VOLUMES.name: _VOLUMES, LABEL_MAPS.name: _SCENES if scenes else _OTHERS}
    steps, crop, augment = defaults.get(kind.name, _OBJECTS)
    rate = _OBJECT_RATE if kind.objects else _FIXED_RATE if frozen else _TRAINED_RATE
    return Settings(
        upsamplers=options.upsamplers,
        seeds=options.seeds,
        data=options.data,
        root=options.root,
        host=host,
        pretrained=pretrained,
        freeze_encoder=frozen,
        steps=options.steps or steps,
        batch_size=options.batch_size,
        learning_rate=options.lr if options.lr is not None else rate,
        crop=options.crop or ((whole[-2], whole[-1]) if whole and not kind.objects else crop),
        augment=options.augment or augment,
        size=whole if scenes else None,
        difficulty=(options.difficulty or 0.0) if scenes else None,
        train_images=options.train_images or train_images,
        val_images=options.val_images or val_images,
        volume_size=whole if slices else None,
        convention=(options.convention or "transunet") if slices else None,
        host_options=_host_options(options, kind, whole) if kind.objects else None,
    )


def _refuse(options: argparse.Namespace, fits: Mapping[str, bool], reason: str) -> None:
    """Refuse options that are given and do not fit."""
    given = [name for name, fit in fits.items() if not fit and getattr(options, name) is not None]
    if given:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ValueError(f"{words} {reason}: leave out.")


def _host_options(options: argparse.Namespace, kind: Kind, size: tuple[int, ...] | None) -> dict[str, Any]:
    """Those of a host that finds objects: generated images are seen as they are."""
    chosen: dict[str, Any] = {} if size is None else {"min_size": min(size), "max_size": max(size)}
    if size is not None and kind is PANOPTIC:
        chosen["stuff_area"] = size[0] * size[1] // _STUFF_PART
    return chosen | dict(option_from(word) for word in options.host_options or ())


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu compare",
        description="Train the same network once per upsampler and seed, from the same initial weights and on the same "
        "batches; evaluate; print one table; write results.json, table.md, report.html, sheets/ and runs/. "
        "Interrupted, the same command goes on where it was. More upsamplers or seeds may be added to a folder.",
    )
    add = parser.add_argument
    names = ", ".join(UPSAMPLERS)
    add(
        "--upsamplers",
        type=variants,
        default=("bilinear", "resfu"),
        metavar="A,B",
        help=f"all, or of {names}; with constructor arguments if wanted: resfu+kernel_size=5+groups=2",
    )
    add("--seeds", type=seeds, default=(0,), metavar="N | A,B", help="a number of seeds, or a list with commas (1)")
    add("--data", choices=DATA, default="scenes", help="what to train on (scenes: generated, no download)")
    add("--root", metavar="DIR", help="folder of the data (scenes: of their cache)")
    add("--output", required=True, metavar="DIR", help="folder for everything that comes out")
    add("--overwrite", action="store_true", help="begin again in a folder that holds a comparison")
    small = "efficientnet-lite0; transunet-small for volumes"
    add("--host", choices=list(HOSTS), metavar="NAME", help=f"of {', '.join(HOSTS)} ({small})")
    add(
        "--host-options",
        nargs="+",
        metavar="KEY=VALUE",
        help="further arguments of a host that finds objects, such as min_size=320 (scenes: seen as they are)",
    )
    yes_no = argparse.BooleanOptionalAction
    add("--pretrained", action=yes_no, help="ImageNet weights in the encoder (default: where it is EfficientNet-Lite0)")
    freeze = parser.add_mutually_exclusive_group()
    freeze.add_argument(
        "--freeze-encoder",
        action="store_true",
        default=None,
        help="train the head alone (default for a pretrained encoder)",
    )
    freeze.add_argument(
        "--finetune",
        dest="freeze_encoder",
        action="store_false",
        help="train the encoder too; a pretrained one at a tenth of the learning rate",
    )
    add("--steps", type=positive, metavar="N", help="steps of each training (label maps of scenes 300, others 600)")
    add("--batch-size", type=positive, default=4, metavar="N", help="images a step (4)")
    add(
        "--lr",
        type=float,
        metavar="X",
        help="learning rate of the head (0.005, with a trained encoder 0.0006; objects 0.001)",
    )
    add(
        "--crop",
        type=size,
        metavar="N | HxW",
        help="size of a training sample (generated and objects: whole, volumes 224, else 320)",
    )
    add(
        "--augment",
        choices=["flip", "full"],
        help="full: also random scales and colours (default but for scenes and objects)",
    )
    add("--size", type=size, metavar="N | HxW", help="size of the scenes (192)")
    add("--difficulty", type=float, metavar="X", help="of the scenes, 0 to 1: blur, noise, low contrast (0)")
    add(
        "--volume-size", type=volume_size, metavar="DxHxW", help="of generated volumes (24x128x128, cardiac 10x128x128)"
    )
    add("--train-images", type=positive, metavar="N", help="scenes to train on (400), scans (12) or hearts (20)")
    add("--val-images", type=positive, metavar="N", help="scenes to evaluate on (100), scans (4) or hearts (8)")
    add("--convention", choices=["transunet", "strict"], help="of Dice and HD95, for volumes (transunet)")
    add("--validations", type=positive, default=VALIDATIONS, metavar="N", help="a training (4), the last at its end")
    add("--pictures", type=positive, default=6, metavar="N", help="validation images in the report (6)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    add("--workers", type=int, default=0, metavar="N", help="processes that load images (0)")
    return parser
