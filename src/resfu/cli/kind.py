"""The two kinds of training: label maps, and objects. The host decides, before the words can be parsed."""

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser

from resfu.hosts import DETECTION_HOSTS, PANOPTIC_HOSTS


@dataclass(frozen=True)
class Kind:
    """What the commands need to know about a kind of training.

    Args:
        task: its LightningModule.
        data: its LightningDataModule.
        link: ties together settings of the two.
        without_pretraining: for a network that gets its weights from a checkpoint.
        derived: settings that a checkpoint keeps but that follow from others.
        plain: a task's results as JSON can hold them.
        writer: makes the callback that writes predictions, of the folder, the data, and whether to show progress.
        written: what that writes.
    """

    task: type[LightningModule]
    data: type[LightningDataModule]
    link: Callable[[LightningArgumentParser], None]
    without_pretraining: Callable[[Namespace], None]
    derived: tuple[str, ...]
    plain: Callable[[Mapping[str, Any]], dict[str, Any]]
    writer: Callable[[str, Any, bool], Any]
    written: Callable[[Any], str]


def kind_of(words: list[str]) -> Kind:
    """The kind that options ask for.

    Args:
        words: as the parser gets them, with a `--config` for every file.

    Raises:
        ValueError: for objects without the package that they need.
    """
    host = _host(words)
    if host not in DETECTION_HOSTS:
        return _label_maps()
    if importlib.util.find_spec("pycocotools") is None:
        raise ValueError(f'{host} needs pycocotools, which is not installed: pip install "resfu[coco]"')
    return _objects()


def _label_maps() -> Kind:
    from resfu.training.class_table import plain_metrics
    from resfu.training.datamodule import SegmentationData, dataset_class
    from resfu.training.photos import LabelMapWriter
    from resfu.training.scans import LabelVolumeWriter
    from resfu.training.task import SegmentationTask

    def count(dataset: str) -> int:
        return len(dataset_class(dataset).classes)

    def link(parser: LightningArgumentParser) -> None:
        parser.link_arguments("data.dataset", "model.num_classes", compute_fn=count)
        parser.link_arguments("model.image_mean", "data.mean", apply_on="instantiate")
        parser.link_arguments("model.image_std", "data.std", apply_on="instantiate")

    def without_pretraining(config: Namespace) -> None:
        config.model.pretrained = False

    return Kind(
        SegmentationTask,
        SegmentationData,
        link,
        without_pretraining,
        ("num_classes", "seed"),
        plain_metrics,
        lambda output, data, bar: LabelVolumeWriter(output, bar) if data.volumetric else LabelMapWriter(output),
        lambda data: "label volumes" if data.volumetric else "label maps",
    )


def _objects() -> Kind:
    from resfu.training.detection import DetectionTask
    from resfu.training.detection_data import DetectionData
    from resfu.training.object_files import ObjectWriter
    from resfu.training.object_table import plain_object_metrics

    def link(parser: LightningArgumentParser) -> None:
        parser.link_arguments("model.host", "data.panoptic", compute_fn=lambda host: host in PANOPTIC_HOSTS)

    def without_pretraining(config: Namespace) -> None:
        options = config.model.host_options or {}
        if options.get("frozen") is None:  # which layers are fixed depends on it
            config.model.host_options = {**options, "frozen": config.model.pretrained is not False}
        config.model.pretrained = False

    return Kind(
        DetectionTask,
        DetectionData,
        link,
        without_pretraining,
        ("seed",),
        plain_object_metrics,
        lambda output, data, bar: ObjectWriter(output),
        lambda data: "pictures and their results",
    )


def _host(words: list[str]) -> str | None:
    """The last host that is named; without one that of the checkpoint. What is wrong the parser says, later."""
    found: dict[str, Any] = {}
    for key, value in _settings(words):
        found[key] = value
    if found.get("model.host") is not None or found.get("ckpt_path") is None:
        return found.get("model.host")
    path = Path(found["ckpt_path"])
    if found["ckpt_path"] in ("last", "best"):
        path = Path(found.get("run") or "") / "checkpoints" / f"{path}.ckpt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)["hyper_parameters"]["host"]
    except Exception:  # the many ways in which a file can fail to be a checkpoint
        return None


def _settings(words: list[str]) -> Iterator[tuple[str, Any]]:
    """The settings that decide, in the order in which they are given."""
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        if option in ("-c", "--config"):
            yield from _in_file(value if equals else next(rest, ""))
        elif option in ("--model.host", "--run", "--ckpt_path"):
            yield option.removeprefix("--"), value if equals else next(rest, None)


def _in_file(name: str) -> Iterator[tuple[str, Any]]:
    try:
        content = yaml.safe_load(Path(name).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return
    if isinstance(content, dict):
        model = content.get("model")
        if isinstance(model, dict) and "host" in model:
            yield "model.host", model["host"]
        yield from ((key, content[key]) for key in ("run", "ckpt_path") if key in content)
