"""The base classes of tasks: one object for all that differs between label maps, volumes, instances and so on."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from resfu.tasks.pictures import ImagePictures, VolumePictures
from resfu.tasks.writing import PredictionWriter
from resfu.training.data import TrainingData
from resfu.training.module import TrainingModule
from resfu.training.scores import Score


@dataclass(frozen=True)
class Contents:
    """The contents of the evaluated split of a data set.

    Attributes:
        classes: names of the classes in the results, in order; empty for a task without classes.
        palette: RGB of each class; None for a class that pictures show in many colours.
        count: number of images, or volumes, that are measured.
    """

    classes: list[str]
    palette: list[list[int] | None]
    count: int


class TrainingTask:
    """The part of a task that a training needs.

    Attributes:
        name: name in results and messages.
        module: the LightningModule class: network, losses, metrics.
        data: the LightningDataModule class: splits and augmentation.
        derived: arguments of `module` and `data` that follow from other settings, such as the number of classes, which
            follows from the data set. A checkpoint keeps them, but they are left out when its settings are used again.
    """

    name: ClassVar[str]
    module: ClassVar[type[TrainingModule]]
    data: ClassVar[type[TrainingData]]
    derived: ClassVar[tuple[str, ...]] = ("seed",)

    @property
    def monitor(self) -> Score:
        """The score that chooses the best checkpoint."""
        return self.module.scores[0]

    def completed(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Add the settings of "model" and "data" that follow from other settings; return all."""
        return settings

    def without_pretraining(self, model: dict[str, Any]) -> dict[str, Any]:
        """The settings of a network that gets its weights from a checkpoint."""
        return {**model, "pretrained": False}

    def data_arguments(self, module: Any) -> dict[str, Any]:
        """The arguments of the data module that follow from the network, such as {"mean": ..., "std": ...}."""
        return {}


class Task(TrainingTask, ABC):
    """Base class of the tasks.

    To add a task, write its module, its data module and a subclass of this class, each in `resfu/tasks`, and add it to
    `TASKS`. The names of the two modules must end in "Module" and "Data": the command line finds the settings of
    "model" and "data" by reading the constructors of such classes in `resfu/tasks` and `resfu/training`, without
    importing them. The documentation (docs/architecture.md, "To add something") lists the other steps, and
    `tests/support/depth.py` is a complete task in one file.

    A subclass sets `name`, `module`, `data`, `small_recipe` and `written`, and implements the abstract methods. All
    other members have defaults.

    Attributes:
        host_tasks: values of the attribute `task` of functions whose networks belong to this task. Default: the name.
        small_recipe: a recipe for a laptop, used in place of published networks and data there.
        seen_size: reason why `predict` cannot choose the size at which a network gets a file. "" if it can; then the
            data module has an argument `longest_side`, and the module `inference` with the fields of `Inference`.
        counted: the things that validation counts, as a word for messages.
        written: the results that `predict` writes, in words.
        row: word for a row of the table of classes, such as "organ".
        lists_classes: whether comparisons also print every score class by class.
        shows_errors: whether pictures show where a prediction is wrong.
        note: explanation of the numbers; `{count}` and the module's settings, such as `{convention}`, are filled in.
        class_note: explanation of the numbers in the table of classes; "" for a task without classes.
        cost_note: the operations that the operation counts leave out.
    """

    host_tasks: ClassVar[tuple[str, ...]] = ()
    small_recipe: ClassVar[str]
    seen_size: ClassVar[str] = ""
    counted: ClassVar[str] = "images"
    written: ClassVar[str]
    row: ClassVar[str] = "class"
    lists_classes: ClassVar[bool] = False
    shows_errors: ClassVar[bool] = False
    note: ClassVar[str] = "in percent"
    class_note: ClassVar[str] = ""
    cost_note: ClassVar[str] = ""

    @property
    def scores(self) -> tuple[Score, ...]:
        """The scores that comparisons show; the first also as a curve."""
        return tuple(score for score in self.module.scores if score.compared)

    def trains(self, host_task: str, dataset: str) -> bool:
        """Whether this is the task of a network with the attribute `host_task`, on a data set given by name or path."""
        return host_task in (self.host_tasks or (self.name,))

    @abstractmethod
    def check_data(self, host: str, dataset: str) -> None:
        """Refuse data without the labels that the network needs, and missing packages.

        Args:
            host: name of the network.
            dataset: name of the data set, or "package.module:Class".

        Raises:
            ValueError: in these cases; the message says what to choose or to install.
        """

    @abstractmethod
    def writer(self, folder: str, progress: bool, overlay: bool = False) -> PredictionWriter:
        """The callback that writes predictions into a folder.

        Args:
            folder: the folder.
            progress: show the progress within a file, if files take long.
            overlay: also write pictures of the predictions over the photos, if the task does not write them anyway.

        Raises:
            ValueError: for `overlay` if predictions are not of photos.
        """

    @abstractmethod
    def contents(self, data: Any) -> Contents:
        """The contents of the evaluated split of a data module that is set up."""

    @abstractmethod
    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        """Make pictures of samples of the evaluated split, with the predictions of trained networks.

        Args:
            modules: modules by the name of the upsampler, in evaluation mode, on one device.
            data: the data module.
            places: indices of the samples.

        Returns:
            One entry for each sample. `feature_views` makes the pictures of features, which come first for every
            upsampler.
        """

    def volumes(self, modules: dict[str, Any], data: Any) -> list[VolumePictures]:
        """Pictures of volumes, slice by slice, with the predictions of trained networks; most tasks have none."""
        return []

    def input_size(self, host: Any, image: Tensor) -> tuple[int, int]:
        """(H, W) at which a network gets an image [3, H, W]."""
        return image.shape[-2], image.shape[-1]

    @contextmanager
    def counted_part(self, host: Any) -> Iterator[None]:
        """A context in which the network only runs the part whose operations are counted."""
        yield
