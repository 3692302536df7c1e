"""A task as one object: what differs between label maps, volumes, instances and panoptic segments."""

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
    """What is in the evaluated split of a data set.

    Attributes:
        classes: the names of what the results list class by class, in that order; none where nothing is classified.
        palette: RGB of each, None for one that pictures show in many colours.
        count: how many images, or volumes, are measured.
    """

    classes: list[str]
    palette: list[list[int] | None]
    count: int


class TrainingTask:
    """What a training needs to know of a task.

    Attributes:
        name: in results and messages.
        module: the LightningModule: network, losses, metrics.
        data: the LightningDataModule: splits and augmentation.
        derived: arguments of both that a checkpoint keeps but that follow from other settings, such as the number of
            classes from the data set: a checkpoint's are left out where its settings are used again.
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
        """Add to the settings of "model" and "data" what follows from others; return them."""
        return settings

    def without_pretraining(self, model: dict[str, Any]) -> dict[str, Any]:
        """The settings of a network that gets its weights from a checkpoint."""
        return {**model, "pretrained": False}

    def data_arguments(self, module: Any) -> dict[str, Any]:
        """The arguments of the data module that follow from the network, such as {"mean": ..., "std": ...}."""
        return {}


class Task(TrainingTask, ABC):
    """Base class of the tasks.

    To add one, write its module, its data module and a subclass, each in `resfu/tasks`, and name it in `TASKS`. The
    names of the two modules end in "Module" and "Data": the command line finds the settings of "model" and "data" by
    reading the constructors of such classes in `resfu/tasks` and `resfu/training`, without importing them. Docs
    (docs/architecture.md, "To add something") list the rest, and `tests/support/depth.py` is a whole task in one file.

    A subclass says `name`, `module`, `data`, `small_recipe` and `written`, and writes the abstract methods. The rest
    has a default.

    Attributes:
        host_tasks: what the function that builds a network says by its attribute `task` to be trained for this one;
            default: the name.
        small_recipe: a recipe that is trained on a laptop, and that stands for published networks and data there.
        seen_size: why `predict` cannot choose the size at which a network sees a file; "" where it can: then the data
            module has an argument `longest_side`, and the module `inference` with the fields of `Inference`.
        counted: what validation counts.
        written: what `predict` writes.
        row: what a row of the table of classes is, such as "organ".
        lists_classes: comparisons print every score class by class too.
        shows_errors: pictures show where a prediction is wrong.
        note: what the numbers are; `{count}` and the module's settings, such as `{convention}`, are filled in.
        class_note: what the numbers of the table of classes are, as it is shown; for a task without classes "".
        cost_note: what the operation counts leave out.
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
        """Whether this is the task of a network that says `host_task`, on a data set by its name or path."""
        return host_task in (self.host_tasks or (self.name,))

    @abstractmethod
    def check_data(self, host: str, dataset: str) -> None:
        """Refuse data without the labels that a network trains on, or a package that is missing.

        Args:
            host: name of the network.
            dataset: name of the data set, or "package.module:Class".

        Raises:
            ValueError: that says what to choose or to install.
        """

    @abstractmethod
    def writer(self, folder: str, progress: bool, overlay: bool = False) -> PredictionWriter:
        """The callback that writes predictions into a folder.

        Args:
            folder: where they go.
            progress: show how much of a file is done, where one takes long.
            overlay: write pictures of the predictions over the photos too, where these are not among them anyway.

        Raises:
            ValueError: for `overlay` where predictions are not of photos.
        """

    @abstractmethod
    def contents(self, data: Any) -> Contents:
        """What is in the evaluated split of a data module that is set up."""

    @abstractmethod
    def pictures(self, modules: dict[str, Any], data: Any, places: Sequence[int]) -> list[ImagePictures]:
        """Look at samples of the evaluated split through trained networks.

        Args:
            modules: by the name of the upsampler, in evaluation mode, on one device.
            data: the data module.
            places: of the samples.

        Returns:
            One entry a sample. `feature_views` makes the pictures of features that come first for every upsampler.
        """

    def volumes(self, modules: dict[str, Any], data: Any) -> list[VolumePictures]:
        """Volumes to leaf through, seen through trained networks; most tasks have none."""
        return []

    def input_size(self, host: Any, image: Tensor) -> tuple[int, int]:
        """(H, W) at which a network sees an image [3, H, W]."""
        return image.shape[-2], image.shape[-1]

    @contextmanager
    def counted_part(self, host: Any) -> Iterator[None]:
        """While this lasts, the network runs only what its operations are counted for."""
        yield
