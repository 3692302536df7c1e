"""What a comparison is made with, and when two of them are the same experiment."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from resfu.compare.kinds import VOLUMES, Kind, kind_of
from resfu.compare.variants import parse_variant
from resfu.evaluation.volumes import Convention


@dataclass(frozen=True)
class Settings:
    """The experiment: everything that the numbers depend on, besides the code and the machine.

    Attributes:
        upsamplers: keys of `resfu.UPSAMPLERS`, with constructor arguments if wanted (see `parse_variant`), in the order
            of the table; the first is the one that gains refer to.
        seeds: one training per upsampler and seed.
        data: a name that `kind_of` knows.
        root: folder of the data ("scenes": of its cache).
        host: a key of `resfu.HOSTS`.
        pretrained: whether the encoder starts from ImageNet weights.
        freeze_encoder: leave the encoder as it is, or train it too (a pretrained one at a tenth of the learning rate).
        steps: optimiser steps of each training.
        batch_size: images a step.
        learning_rate: of everything outside the encoder.
        crop: (H, W) of a training sample; None for objects, whose images are seen whole.
        augment: "flip", or of label maps "full": also random scales of 0.5 to 2 and distorted colours; of volumes
            "slice".
        size: (H, W) of a generated scene; None for other data.
        difficulty: 0 to 1, of generated scenes; None for other data.
        train_images: number of scenes or generated volumes to train on; None for other data.
        val_images: number of scenes or generated volumes to evaluate on; None for other data.
        volume_size: (D, H, W) of a generated volume; None for other data.
        convention: of Dice and HD95, see `VolumeMetrics`; None for data that are not volumes.
        host_options: further constructor arguments of a host that finds objects; None for others.

    Raises:
        ValueError: for an unknown name, a bad argument, an empty or repeating list, a number that is not positive, or
            settings that do not go together.
    """

    upsamplers: tuple[str, ...]
    seeds: tuple[int, ...]
    data: str
    root: str | None
    host: str
    pretrained: bool
    freeze_encoder: bool
    steps: int
    batch_size: int
    learning_rate: float
    crop: tuple[int, int] | None
    augment: str
    size: tuple[int, int] | None = None
    difficulty: float | None = None
    train_images: int | None = None
    val_images: int | None = None
    volume_size: tuple[int, int, int] | None = None
    convention: Convention | None = None
    host_options: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in self.upsamplers:
            parse_variant(name)
        kind = self.kind
        for words, values in (("upsamplers", self.upsamplers), ("seeds", self.seeds)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{words} must be given and each only once, got {list(values)}.")
        if min(self.seeds) < 0:
            raise ValueError(f"seeds must not be negative, got {list(self.seeds)}.")
        for words, number in (("steps", self.steps), ("batch size", self.batch_size), ("lr", self.learning_rate)):
            if not number > 0:
                raise ValueError(f"{words} must be above 0, got {number}.")
        known = ("slice",) if kind is VOLUMES else ("flip",) if kind.objects else ("flip", "full")
        if self.augment not in known:
            raise ValueError(f"augment must be {' or '.join(map(repr, known))} for {self.data}, got {self.augment!r}.")
        for words, value, needed in (
            ("a crop", self.crop, not kind.objects),
            ("a convention of Dice and HD95", self.convention, kind is VOLUMES),
        ):
            if (value is not None) != needed:
                raise ValueError(f"{kind.name} {'need' if needed else 'have no use for'} {words}, got {value!r}.")
        if self.host_options is not None and not kind.objects:
            raise ValueError(f"host options are for hosts that find objects, got {self.host_options} for {self.host}.")

    @property
    def kind(self) -> Kind:
        """What the networks are compared by."""
        return kind_of(self.host, self.data)

    @property
    def data_options(self) -> dict[str, Any]:
        """The further arguments of the data module that say what is generated; none for other data."""
        if self.train_images is None:
            return {}
        shape = {"size": self.volume_size or self.size}
        return {
            "options": shape if self.difficulty is None else {**shape, "difficulty": self.difficulty},
            "train_options": {"count": self.train_images},
            "eval_options": {"count": self.val_images},
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON will give it back."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


# Which runs there are, not how a run is made: a folder may gain upsamplers and seeds.
_MAY_CHANGE = ("upsamplers", "seeds")


def check_same(before: Mapping[str, Any], now: Mapping[str, Any], place: object) -> None:
    """Refuse to go on in the folder of another experiment.

    Args:
        before: `Settings.to_dict` of the folder.
        now: `Settings.to_dict` of this call.
        place: the folder, for the message.

    Raises:
        ValueError: naming every setting that differs, with both values.
    """
    keys = [key for key in {**before, **now} if key not in _MAY_CHANGE and before.get(key) != now.get(key)]
    if keys:
        changes = "; ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in keys)
        raise ValueError(
            f"{place} holds a comparison with other settings: {changes}. "
            "Give another --output, the old settings, or --overwrite to begin again."
        )
