"""`resfu validate`, `test` and `predict`: measure and apply a trained network."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from resfu.cli.arguments import Parser, positive
from resfu.cli.prediction import add_options, chosen
from resfu.cli.settings import take_settings
from resfu.cli.training_options import read_recipes
from resfu.recipes import merge, nested


def validate(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu validate`; returns the exit code."""
    return _measure("validate", "the validation split", argv)


def test(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu test`; returns the exit code."""
    return _measure("test", "the test split, class by class", argv)


def predict(argv: Sequence[str]) -> int:
    """Run the command on the arguments after `resfu predict`; returns the exit code."""
    parser = Parser(
        prog="resfu predict",
        description="Write what a trained network says of image files or scans: label maps, label volumes, or the "
        "objects found.",
        allow_abbrev=False,
    )
    add_options(parser)
    _add_checkpoint(parser)
    rest, settings = take_settings(argv)
    options = parser.parse_args(rest)
    experiment, module, checkpoint = _trained(options, settings, lambda task: chosen(options, task))
    data = experiment.create_data(module, options.images)
    progress = experiment.settings["trainer"]["enable_progress_bar"] is not False
    writer = experiment.task.writer(options.output, progress, options.overlay)
    _run(experiment, "predict", module, data, checkpoint, [writer], return_predictions=False)
    for problem in writer.skipped:
        print(f"resfu: skipped: {problem}", file=sys.stderr)
    print(f"{experiment.task.written} in {writer.folder}: {len(writer.written)}")
    return 0


def _measure(command: str, split: str, argv: Sequence[str]) -> int:
    parser = Parser(prog=f"resfu {command}", description=f"Measure a checkpoint on {split}.", allow_abbrev=False)
    _add_checkpoint(parser)
    parser.add_argument("--root", metavar="DIR", help="folder of the data, where it has moved")
    parser.add_argument(
        "--json", "--metrics", dest="metrics", metavar="FILE", help="write the metrics, class by class, as JSON"
    )
    rest, settings = take_settings(argv)
    options = parser.parse_args(rest)
    if options.root is not None:
        settings = merge(nested("data.root", options.root), settings)
    experiment, module, checkpoint = _trained(options, settings)
    data = experiment.create_data(module)
    trainer = _run(experiment, command, module, data, checkpoint, [])
    if options.metrics is not None and trainer.is_global_zero:
        from resfu.evaluation.cost.host import inference_parameters
        from resfu.files.atomic import write_json
        from resfu.training.scores import plain

        write_json(Path(options.metrics), {"parameters": inference_parameters(module.host), **plain(module.results)})
    return 0


def _trained(
    options: Any, settings: dict[str, Any], short: Callable[[Any], dict[str, Any]] = lambda task: {}
) -> tuple[Any, Any, Path]:
    """The experiment of a checkpoint, its network (weights not loaded yet), and the checkpoint's path.

    Args:
        options: of the command.
        settings: given by their full names.
        short: gives those of the command's own options, for the network's task.
    """
    if options.checkpoint is None:
        raise ValueError("which network? Give --checkpoint: a file, or 'last' or 'best' of --run.")
    recipes = read_recipes(options.recipe or ())
    import torch

    from resfu.cli.checkpoints import checkpoint_path, user_errors
    from resfu.tasks import task_of
    from resfu.tasks.experiment import Experiment
    from resfu.tasks.loading import checkpoint_settings

    if options.threads:
        torch.set_num_threads(options.threads)
    checkpoint = checkpoint_path(options.checkpoint, options.run)
    with user_errors():
        kept = checkpoint_settings(checkpoint)
        task = task_of(kept["model"]["host"], kept["data"]["dataset"])
        experiment = Experiment(kept, recipes, short(task), settings).with_weights()
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
    add(
        "--recipe",
        "--config",
        "-c",
        action="append",
        metavar="NAME",
        help="settings that take precedence over the checkpoint's",
    )
    add("--threads", type=positive, metavar="N", help="CPU threads (PyTorch's choice)")
