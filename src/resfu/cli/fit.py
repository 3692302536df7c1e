"""`resfu fit`: train a network from a recipe."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resfu.cli.arguments import Parser, seed
from resfu.cli.training_options import (
    SETTINGS_HELP,
    add_training_options,
    chosen_settings,
    parse,
    read_recipes,
    recipe_first,
)


def run(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu fit`; returns the exit code."""
    options, settings = parse(_parser(), recipe_first(argv))
    recipes, checkpoint = list(options.recipe or ()), options.checkpoint
    saved = Path(options.run or "") / "config.yaml"
    if checkpoint is not None and not recipes and options.run and saved.is_file():
        recipes = [str(saved)]
    base = read_recipes(recipes)
    own: dict[str, Any] = {}
    if options.seed is not None:
        own["seed_everything"] = options.seed
    if options.upsampler is not None:
        from resfu.compare.variants import parse_variant  # torch

        name, chosen = parse_variant(options.upsampler)
        own["model"] = {"upsampler": name, "upsampler_options": chosen or None}
    return _train(options, [base, own, chosen_settings(options, base, settings)], checkpoint)


def _train(options: Any, settings: list[dict[str, Any]], given: str | None) -> int:
    import torch
    from rich.console import Console

    from resfu.cli.checkpoints import checkpoint_path, user_errors
    from resfu.tasks.experiment import Experiment
    from resfu.tasks.loading import checkpoint_settings
    from resfu.tasks.run import RunFolder, console_progress, train
    from resfu.training.last_checkpoint import read_progress

    if options.threads:
        torch.set_num_threads(options.threads)
    console = Console(stderr=not sys.stdout.isatty() and sys.stderr.isatty())
    with user_errors():
        checkpoint = None
        if given is not None:
            checkpoint = checkpoint_path(given, options.run)
            settings = [checkpoint_settings(checkpoint), *settings]
        experiment = Experiment(*settings)
        _check_length(experiment.settings["trainer"])
        folder = RunFolder(
            Path(options.run or experiment.settings["trainer"]["default_root_dir"] or f"runs/{experiment.name}")
        )
        # Read now: a training that goes on overwrites it.
        before = None if checkpoint is None else read_progress(checkpoint)[0]
        resume = f"resfu fit --run {folder.path} --checkpoint last"
        try:
            trained = train(experiment, folder, checkpoint=checkpoint, progress=console_progress(experiment, console))
        except KeyboardInterrupt:
            if folder.last.is_file():
                print(f"interrupted: `{resume}` goes on from the last checkpoint", file=sys.stderr)
            raise
    if not trained.trainer.is_global_zero:
        return 0
    if trained.trainer.global_step == before:
        print(f"nothing to do: {checkpoint} is at the last step ({before}); more --steps prolong a run")
    results = ", ".join(str(path) for path in (folder.last, folder.best) if path.is_file())
    print(f"results: {results or folder.path}")
    if not folder.best.is_file():
        print("there was no validation, so there is no best.ckpt")
    return 0


def _check_length(trainer: dict[str, Any]) -> None:
    """Refuse what Lightning would train for 1000 epochs."""
    if trainer["max_steps"] == -1 and not (trainer["max_epochs"] or trainer["max_time"] or trainer["fast_dev_run"]):
        raise ValueError("nothing says how long to train: give a recipe, such as --recipe scenes, or --steps N.")


def _parser() -> Parser:
    parser = Parser(
        prog="resfu fit",
        description="Train a network from a recipe, which is the first word or follows --recipe. Its folder gets "
        "config.yaml, checkpoints/ and logs/. " + SETTINGS_HELP,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--recipe",
        "--config",
        "-c",
        action="append",
        metavar="NAME",
        help="of `resfu list recipes`, or a YAML file; a later one takes precedence over an earlier one",
    )
    add("--upsampler", metavar="NAME", help="with constructor arguments if wanted: resfu+kernel_size=5+groups=2")
    add("--seed", type=seed, metavar="N", help="seed of weights, order and augmentation (0)")
    add("--run", metavar="DIR", help="folder of the run (runs/HOST_UPSAMPLER_DATA)")
    add(
        "--checkpoint",
        "--ckpt_path",
        metavar="PATH",
        help="resume a training: 'last' of the run, or a file",
    )
    add_training_options(parser)
    return parser
