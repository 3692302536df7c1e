"""`resfu distill`: fit an upsampler to a frozen encoder without labels."""

import argparse
import sys
from pathlib import Path
from typing import Any

from resfu.cli.arguments import Parser, positive, rate, seed
from resfu.cli.training_options import SETTINGS_HELP, parse
from resfu.recipes import changes, listed, merge


def run(words: list[str]) -> int:
    """Start or continue a fit, then write the weights and their model card."""
    options, settings = parse(_parser(), words)
    import torch
    from rich.console import Console

    from resfu.cli.checkpoints import user_errors
    from resfu.compare.variants import parse_variant
    from resfu.tasks.distillation_files import write_weights
    from resfu.tasks.experiment import DistillExperiment
    from resfu.tasks.run import RunFolder, console_progress, train
    from resfu.training.quiet import known_warnings_ignored

    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(stderr=not sys.stdout.isatty() and sys.stderr.isatty())
    name, chosen = parse_variant(options.upsampler)
    own: dict[str, Any] = {
        "model": {"host": options.encoder, "upsampler": name, "upsampler_options": chosen or None},
        "data": {"dataset": options.data, "root": options.images, "batch_size": options.batch_size},
        "trainer": {
            "max_steps": options.steps,
            "max_epochs": -1,
            "val_check_interval": min(options.validate_every, options.steps),
            "check_val_every_n_epoch": None,  # steps are counted over epochs
        },
        "seed_everything": options.seed,
    }
    if options.pairs:
        own["model"]["pairs"] = options.pairs
    if options.lr:
        own["model"]["optimisation"] = {"learning_rate": options.lr}
    if options.crop:
        own["data"]["crop_size"] = options.crop
    with user_errors():
        experiment = DistillExperiment(merge(own, settings))
        folder = RunFolder(Path(options.run or f"runs/{experiment.name}"))
        checkpoint = folder.last if folder.last.is_file() else None
        if checkpoint is not None:
            _check_same(folder.config, experiment.settings)
            print(f"goes on from {checkpoint}")
        progress = console_progress(experiment, console, "fit")
        trained = train(experiment, folder, checkpoint=checkpoint, progress=progress)
        with known_warnings_ignored():
            trained.trainer.validate(trained.module, datamodule=trained.data, verbose=False)
        console.print(trained.module.table())
        files = write_weights(folder.path, experiment, trained)
    print(f"results: {', '.join(map(str, files))}")
    return 0


# These decide how long a fit runs, where, and what it shows, not what it computes.
_MAY_CHANGE = (
    "save_every",
    "data.num_workers",
    "data.eval_batch_size",
    *(
        f"trainer.{key}"
        for key in ("max_steps", "max_time", "val_check_interval", "check_val_every_n_epoch", "accelerator", "devices")
    ),
    *(f"trainer.{key}" for key in ("logger", "log_every_n_steps", "enable_progress_bar", "profiler")),
)


def _check_same(config: Path, settings: dict[str, Any]) -> None:
    """Refuse to continue a fit that was started with other settings.

    Raises:
        ValueError: naming every setting that differs, with both values.
    """
    import yaml

    before = yaml.safe_load(config.read_text("utf-8")) if config.is_file() else settings
    if found := changes(before, listed(settings), _MAY_CHANGE):
        raise ValueError(
            f"{config.parent} holds a fit with other settings: {found}. Give another --run, or the old settings."
        )


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="resfu distill",
        description="Fit an upsampler so that a frozen encoder's features of a small image become those of the whole "
        "one. No labels. The folder gets weights.safetensors for resfu.PixelFeatures, card.md, checkpoints/ and logs/; "
        "called again, it goes on from the last checkpoint. " + SETTINGS_HELP,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--encoder", default="efficientnet-lite0", metavar="NAME", help="as of resfu.PixelFeatures (efficientnet-lite0)"
    )
    add("--images", metavar="DIR", help="folder of photos, or of the data that --data names")
    add("--data", default="photos", metavar="NAME", help="a data set in place of a folder; its labels are not used")
    add(
        "--upsampler",
        default="naf",
        metavar="NAME",
        help="naf, anyup, resfu-image or stack-jbu+steps=1, with options: naf+dim=64",
    )
    add(
        "--pairs",
        choices=("scales", "pooled"),
        help="low features: of the image at half its size (scales), or averaged",
    )
    add("--steps", type=positive, default=2000, metavar="N", help="optimiser steps (2000)")
    add("--batch-size", type=positive, default=4, metavar="N", help="images a step (4)")
    add("--crop", type=positive, metavar="N", help="side of the square cut from a photo (256)")
    add("--lr", type=rate, metavar="X", help="learning rate (2e-4)")
    add("--validate-every", type=positive, default=500, metavar="N", help="steps between validations (500)")
    add("--seed", type=seed, default=0, metavar="N", help="of weights, order and crops (0)")
    add("--run", metavar="DIR", help="folder of the run (runs/ENCODER_UPSAMPLER_DATA)")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
    return parser
