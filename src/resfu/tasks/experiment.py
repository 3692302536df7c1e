"""An experiment: all settings of a training, checked key by key, and the objects that are built from them."""

import re
from abc import ABC, abstractmethod
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Generic, Self, TypeVar

import torch
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch import Callback, Trainer

from resfu.recipes import merge
from resfu.tasks import DISTILLATION, Task, task_of
from resfu.tasks.base import TrainingTask
from resfu.tasks.distillation import Distillation
from resfu.training.arguments import as_options
from resfu.training.checkpoint_files import WholeCheckpoints
from resfu.training.data import TrainingData
from resfu.training.module import TrainingModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from resfu.training.schedule import Schedule

# Arguments that are set by the command, the network or the seed, and so are not settings of a recipe.
_NO_SETTINGS: dict[str, set[str | int]] = {"model": {"seed"}, "data": {"mean", "std", "seed", "images"}}
_DEFAULTS: dict[str, Any] = {"model": {"host": "segformer-mit-b0"}, "data": {"dataset": "scenes"}, "trainer": {}}


T = TypeVar("T", bound=TrainingTask, covariant=True)


class BaseExperiment(ABC, Generic[T]):
    """A recipe with an upsampler and a seed, for one task.

    Args:
        settings: settings as in a recipe: the groups "model" (arguments of the task's module), "data" (of its data
            module) and "trainer" (of Lightning's Trainer), and "seed_everything" and "save_every" (steps between
            checkpoints). Later settings take precedence over earlier ones.

    Raises:
        ValueError: for an unknown key, a wrong type or a bad value; the message begins with the key.
    """

    def __init__(self, *settings: Mapping[str, Any]) -> None:
        merged = merge(_DEFAULTS, *settings)
        for key in merged:
            if key not in (*_DEFAULTS, "seed_everything", "save_every"):
                raise ValueError(f"unknown key {key}: settings are model, data, trainer, seed_everything, save_every.")
        self.task: T = self.choose_task(merged["model"]["host"], merged["data"]["dataset"])
        merged = self.task.completed(merged)
        try:
            with known_warnings_ignored():
                self._namespace: Namespace = parser(self.task).parse_object(merged)
        except ArgumentError as error:
            raise ValueError(plain_message(str(error))) from error
        self.settings: dict[str, Any] = self._namespace.as_dict()
        for key, kind in (("optimisation", Optimisation), ("schedule", Schedule)):
            as_options(kind, self.settings["model"][key])  # refuses bad values

    @staticmethod
    @abstractmethod
    def choose_task(host: str, dataset: str) -> T:
        """The task for a network and its data."""

    @property
    def seed(self) -> int:
        """The seed of weights, order and augmentation."""
        return self.settings["seed_everything"]

    @property
    def name(self) -> str:
        """Network, upsampler and data in one word."""
        model = self.settings["model"]
        return f"{model['host']}_{model['upsampler']}_{self.settings['data']['dataset']}".replace(":", ".")

    def with_weights(self) -> Self:
        """The same experiment for a network that gets all its weights from a checkpoint."""
        return type(self)({**self.settings, "model": self.task.without_pretraining(self.settings["model"])})

    def create_module(self) -> TrainingModule:
        """Build the network; for one seed, all weights outside the upsampler start the same with every upsampler."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return self.task.module(**self.settings["model"], seed=self.seed)  # pyright: ignore[reportCallIssue]

    def create_data(self, module: TrainingModule, images: Sequence[str] = ()) -> TrainingData:
        """Build the data module for a network; `images` are the files to predict."""
        of_network = self.task.data_arguments(module)
        return self.task.data(**self.settings["data"], **of_network, seed=self.seed, images=list(images))

    def create_trainer(self, callbacks: Sequence[Callback] = (), **changes: Any) -> Trainer:
        """Build Lightning's Trainer.

        Args:
            callbacks: callbacks in addition to those of the settings.
            changes: arguments that take precedence over the settings.
        """
        with known_warnings_ignored():
            arguments = parser(self.task).instantiate_classes(self._namespace)["trainer"].as_dict()
        own, plugins = (_as_list(arguments.pop(key, None)) for key in ("callbacks", "plugins"))
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):  # Lightning allows only one
            plugins.append(WholeCheckpoints())
        arguments |= {"enable_model_summary": False, **changes}
        return Trainer(**arguments, callbacks=[*own, *callbacks], plugins=plugins)


class Experiment(BaseExperiment[Task]):
    """A recipe with an upsampler and a seed: a network for one of the tasks in `TASKS`.

    Args:
        settings: see `BaseExperiment`.

    Raises:
        ValueError: see `BaseExperiment`.
    """

    @staticmethod
    def choose_task(host: str, dataset: str) -> Task:
        """See `task_of`."""
        return task_of(host, dataset)


class DistillExperiment(BaseExperiment[Distillation]):
    """The fit of an upsampler for a frozen encoder, which is named by "model.host"."""

    @staticmethod
    def choose_task(host: str, dataset: str) -> Distillation:
        """The same for every encoder and all data."""
        return DISTILLATION

    def with_weights(self) -> Self:
        """The same experiment, because checkpoints do not contain the encoder."""
        return self


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


@cache
def parser(task: TrainingTask) -> ArgumentParser:
    """The parser that checks the settings of a task."""
    checks = ArgumentParser(exit_on_error=False, prog="resfu")
    checks.add_argument("--seed_everything", type=int, default=0)
    checks.add_argument("--save_every", type=int | None, default=None)
    checks.add_class_arguments(task.module, "model", skip=_NO_SETTINGS["model"], instantiate=False)
    checks.add_class_arguments(task.data, "data", skip=_NO_SETTINGS["data"], instantiate=False)
    checks.add_class_arguments(Trainer, "trainer", instantiate=False)
    return checks


def plain_message(message: str) -> str:
    """A message of the parser rewritten for users: the key first, without the parser's own terms."""
    message = re.sub(r"^Group '(.+)' does not accept option '(.+)'$", r"unknown key \1.\2", message)
    message = re.sub(
        r"^(?:Validation failed: )?No action for key '(.+)' to check its value\.$", r"unknown key \1", message
    )
    message = re.sub(r"^Option '(.+)' is not accepted$", r"unknown key \1", message)
    return re.sub(r'^(?:Validation failed: )?Parser key "(.+?)":', r"\1:", message)
