"""`resfu validate`, `test` and `predict`: measure and apply a trained network."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resfu.cli.arguments import Parser, positive
from resfu.cli.settings import take_settings
from resfu.cli.training_options import read_recipes
from resfu.recipes import merge, nested


def validate(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu validate`; returns the exit code."""
    return _measure("validate", "the validation split", argv)


def test(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu test`; returns the exit code."""
    return _measure("test", "the test split, class by class", argv)


def predict(argv: Sequence[str]) -> int:
    """Run the command on the words after `resfu predict`; returns the exit code."""
    parser = Parser(
        prog="resfu predict",
        description="Write what a trained network says of image files or scans: label maps, label volumes, or the "
        "objects found.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("images", nargs="+", metavar="FILE", help="image files (or scans), and folders of these")
    _add_checkpoint(parser)
    add("--output", default="predictions", metavar="DIR", help="folder for what is written (predictions)")
    add("--on-error", "--on_error", choices=["raise", "skip"], default="raise", help="at an unreadable file (raise)")
    scans = parser.add_argument_group("scans")
    words = "at voxels of a scan that are NaN or infinite (error)"
    scans.add_argument("--nonfinite", choices=["error", "fill"], help=words)
    words = "of --nonfinite fill (the low end of the CT window, of MRI the least finite value)"
    scans.add_argument("--fill-value", "--fill_value", type=float, metavar="V", help=words)
    rest, settings = take_settings(argv)
    options = parser.parse_args(rest)
    for key in ("on_error", "nonfinite", "fill_value"):
        if getattr(options, key) is not None:
            settings = merge(settings, nested(f"data.{key}", getattr(options, key)))
    experiment, module, checkpoint = _trained(options, settings)
    data = experiment.create_data(module, options.images)
    bar = experiment.settings["trainer"]["enable_progress_bar"] is not False
    writer = experiment.task.writer(options.output, bar)
    _run(experiment, "predict", module, data, checkpoint, [writer], return_predictions=False)
    for problem in writer.skipped:
        print(f"resfu: skipped: {problem}", file=sys.stderr)
    print(f"{experiment.task.written} in {writer.folder}: {len(writer.written)}")
    return 0


def _measure(command: str, split: str, argv: Sequence[str]) -> int:
    parser = Parser(prog=f"resfu {command}", description=f"Measure a checkpoint on {split}.", allow_abbrev=False)
    _add_checkpoint(parser)
    parser.add_argument("--root", metavar="DIR", help="folder of the data, where it is not the checkpoint's")
    parser.add_argument("--metrics", metavar="FILE", help="JSON file for the metrics, class by class")
    rest, settings = take_settings(argv)
    options = parser.parse_args(rest)
    if options.root is not None:
        settings = merge(nested("data.root", options.root), settings)
    experiment, module, checkpoint = _trained(options, settings)
    data = experiment.create_data(module)
    trainer = _run(experiment, command, module, data, checkpoint, [])
    if options.metrics is not None and trainer.is_global_zero:
        from resfu.compare.folder import write_json
        from resfu.evaluation.cost.host import inference_parameters
        from resfu.training.scores import plain

        write_json(Path(options.metrics), {"parameters": inference_parameters(module.host), **plain(module.results)})
    return 0


def _trained(options: Any, settings: dict[str, Any]) -> tuple[Any, Any, Path]:
    """The experiment of a checkpoint, its network without weights yet, and the file."""
    if options.checkpoint is None:
        raise ValueError("which network? Give --checkpoint: a file, or 'last' or 'best' of --run.")
    recipes = read_recipes(options.recipe or ())
    import torch

    from resfu.cli.checkpoints import checkpoint_path, user_errors
    from resfu.tasks.experiment import Experiment
    from resfu.tasks.loading import checkpoint_settings

    if options.threads:
        torch.set_num_threads(options.threads)
    checkpoint = checkpoint_path(options.checkpoint, options.run)
    with user_errors():
        experiment = Experiment(checkpoint_settings(checkpoint), recipes, settings).with_weights()
        return experiment, experiment.create_module(), checkpoint


def _run(
    experiment: Any, action: str, module: Any, data: Any, checkpoint: Path, callbacks: list[Any], **options: Any
) -> Any:
    from resfu.cli.checkpoints import user_errors
    from resfu.training.interruption import interruptible
    from resfu.training.quiet import known_warnings_ignored

    with known_warnings_ignored(), user_errors(), interruptible():
        trainer = experiment.create_trainer(callbacks, logger=False, enable_checkpointing=False)
        getattr(trainer, action)(module, datamodule=data, ckpt_path=str(checkpoint), **options)
    return trainer


def _add_checkpoint(parser: Parser) -> None:
    add = parser.add_argument
    add("--checkpoint", "--ckpt_path", metavar="PATH", help="a file, or 'last' or 'best' of the run")
    add("--run", metavar="DIR", help="folder of the run")
    add("--recipe", "--config", "-c", action="append", metavar="NAME", help="settings over the checkpoint's")
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
