"""The configuration of a training run: YAML files and options, checked key by key, to task, data and trainer."""

import re
from argparse import ArgumentError
from collections.abc import Collection
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from resfu.cli.kind import kind_of
from resfu.cli.recipe import with_bases
from resfu.cli.warmup import shorten_warmup
from resfu.files.atomic import replacing
from resfu.training.checkpoint_files import WholeCheckpoints, read_checkpoint
from resfu.training.divergence import FiniteTraining
from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.step_bar import StepBar

_AGAINST_DIVERGENCE = (
    "Give a lower --model.optimisation.learning_rate or --trainer.gradient_clip_val 1; where the loss was fine, "
    "--trainer.precision 32-true."
)


class Configuration(LightningCLI):
    """Parse the words of one command and build its parts.

    What a checkpoint says counts less than a `--config` file, and that less than an option; later words go before
    earlier ones.

    Args:
        command: "fit", "validate", "test" or "predict".
        words: what follows the command.

    Raises:
        ValueError: for a wrong key, a wrong type or a bad value, naming the key; for a training without a length.
        OSError: for a file that is missing.
    """

    model: Any  # a task of `kind`, and its data
    datamodule: Any

    def __init__(self, command: str, words: list[str]) -> None:
        self.command = command
        words = with_bases(words)
        self.kind = kind_of(words)
        try:
            super().__init__(
                self.kind.task,
                self.kind.data,
                run=False,
                args=words,
                save_config_callback=None,  # `_SaveConfig` writes it later
                auto_configure_optimizers=False,  # model.optimisation and model.schedule do
                seed_everything_default=0,
                # Without an example input Lightning's summary counts 0 operations; `resfu list` and `compare` count.
                trainer_defaults={"enable_model_summary": False},
                # The task keeps its own hyper-parameters, in plain values.
                load_from_checkpoint_support=False,
                parser_kwargs={"prog": f"resfu {command}", "exit_on_error": False},
            )
        except ArgumentError as error:
            raise ValueError(_plain(str(error))) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the command's own options and tie together what belongs together."""
        parser.add_argument("--base", type=list[str] | None, help="in a file: files that it builds on, relative to it")
        parser.add_argument("--run", type=str | None, help="folder of the run; default: runs/HOST_UPSAMPLER_DATASET")
        parser.add_argument(
            "--ckpt_path", type=str | None, help="checkpoint: a file, or 'last' or 'best' of the run; `fit` resumes it"
        )
        if self.command == "fit":
            parser.add_argument("--save_every", type=int, default=500, help="steps between two saves of last.ckpt")
        if self.command in ("validate", "test"):
            parser.add_argument("--metrics", type=str | None, help="JSON file for the metrics, class by class")
        if self.command == "predict":
            parser.add_argument("images", type=str, nargs="*", help="image files (or scans) and folders of these")
            parser.add_argument("--output", type=str, default="predictions", help="folder for the label maps")
            parser.add_argument(
                "--on_error", "--on-error", choices=["raise", "skip"], default="raise", help="at an unreadable image"
            )
            parser.link_arguments("images", "data.images")
            parser.link_arguments("on_error", "data.on_error")
        parser.link_arguments("seed_everything", "model.seed")
        parser.link_arguments("seed_everything", "data.seed")
        self.kind.link(parser)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse, and with a checkpoint parse again on top of what that says."""
        config = parser.parse_args(args)  # pyright: ignore[reportArgumentType]
        self.run_folder = Path(config.run or config.trainer.default_root_dir or _run_name(config))
        self.checkpoint = _checkpoint_path(config.ckpt_path, self.run_folder)
        if self.checkpoint is not None:
            parser.set_defaults(_settings(self.checkpoint, self.kind.derived))
            config = parser.parse_args(args)  # pyright: ignore[reportArgumentType]
        if self.command == "fit":
            _check_length(config, self.run_folder)
            shorten_warmup(config, args)  # pyright: ignore[reportArgumentType]
        # The saved configuration stands alone, and begins a run of its own.
        config.base = None
        self.saved = config.clone()
        self.saved.run = self.saved.ckpt_path = None
        if self.checkpoint is not None:
            self.kind.without_pretraining(config)
        self.config = config

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, with this run's folder, loggers and callbacks."""
        given = self.config.trainer
        self.trainer_defaults["callbacks"] = self._callbacks(bool(given.logger is not False))
        if self.command == "fit" and not given.fast_dev_run:
            self.trainer_defaults["callbacks"].append(_SaveConfig(self.parser, self.saved))
        if self.command == "predict" and getattr(self.datamodule, "volumetric", False):
            kwargs["enable_progress_bar"] = False  # that of the slices takes its place
        elif given.enable_progress_bar is not False:
            self.trainer_defaults["callbacks"].append(StepBar())
        kwargs["default_root_dir"] = str(self.run_folder)
        if given.logger is None:
            kwargs["logger"] = self._loggers()
        plugins = self._get(self.config_init, "trainer").plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):  # there can be one
            kwargs["plugins"] = [*plugins, WholeCheckpoints()]
        return super().instantiate_trainer(**kwargs)

    def _callbacks(self, logged: bool) -> list[Any]:
        if self.command != "fit":
            return []
        folder = self.run_folder / "checkpoints"
        guard = FiniteTraining("the training", _AGAINST_DIVERGENCE, folder)
        if self.config.trainer.enable_checkpointing is False or self.config.trainer.fast_dev_run:
            return [guard]
        best = ModelCheckpoint(
            folder, "best", monitor=self.datamodule.monitor, mode="max", enable_version_counter=False
        )
        return [guard, best, LastCheckpoint(folder / "last.ckpt", self.config.save_every)] + [
            LearningRateMonitor("step")
        ] * logged

    def _loggers(self) -> Any:
        if self.command != "fit":
            return False
        # Every start of the run has its own version folder: the curves of an interrupted one stay.
        table = CSVLogger(self.run_folder, "logs")
        return [table, TensorBoardLogger(self.run_folder, "logs", version=table.version)]


class _SaveConfig(Callback):
    """Writes config.yaml into the run's folder, once the data are there and a checkpoint has been found to fit."""

    def __init__(self, parser: LightningArgumentParser, config: Namespace) -> None:
        self.parser = parser
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        with replacing(Path(trainer.default_root_dir) / "config.yaml") as draft:
            # With the settings that are null: the default of some is another.
            self.parser.save(self.config, draft, skip_none=False)


def _plain(message: str) -> str:
    """The parser's complaint in the words of the configuration: the key first, without the parser's own names."""
    message = re.sub(r"^Group '(.+)' does not accept option '(.+)'$", r"unknown key \1.\2", message)
    message = re.sub(r"^Option '(.+)' is not accepted$", r"unknown key \1", message)
    message = re.sub(r"^unrecognized arguments:", "unknown option:", message)
    message = re.sub(r'^Parser key "(.+?)":', r"\1:", message)
    return re.sub(r"^Call to compute_fn of link .*? failed: ", "", message)


def _run_name(config: Namespace) -> str:
    return f"runs/{config.model.host}_{config.model.upsampler}_{config.data.dataset}"


def _check_length(config: Namespace, run: Path) -> None:
    """Refuse what Lightning would train for 1000 epochs."""
    given = config.trainer
    if given.max_steps == -1 and not (given.max_epochs or given.max_time or given.fast_dev_run):
        saved = run / "config.yaml"
        recipe = saved if saved.is_file() else "recipes/efficientnet-lite0_resfu_scenes.yaml"
        raise ValueError(
            f"nothing says how long to train: give a recipe, such as --config {recipe}, or --trainer.max_steps N."
        )


def _checkpoint_path(given: str | None, run: Path) -> Path | None:
    if given is None:
        return None
    path = run / "checkpoints" / f"{given}.ckpt" if given in ("last", "best") else Path(given)
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}: give a file, or --run and 'last' or 'best'.")
    return path


def _settings(checkpoint: Path, derived: Collection[str]) -> dict[str, Any]:
    """The arguments of task and data that a checkpoint keeps, by their dotted keys, without those that follow."""
    content = read_checkpoint(checkpoint)
    try:
        found = {"model": content["hyper_parameters"], "data": content["datamodule_hyper_parameters"]}
    except KeyError as error:
        raise ValueError(f"{checkpoint} is not a checkpoint of `resfu fit`.") from error
    settings: dict[str, Any] = {}
    for part, values in found.items():
        for key, value in values.items():
            if key in derived:
                continue
            if isinstance(value, dict) and not key.endswith("options"):
                settings.update({f"{part}.{key}.{name}": inner for name, inner in value.items()})
            else:
                settings[f"{part}.{key}"] = value
    return settings
