"""Loading of trained networks from their files."""

import inspect
from pathlib import Path
from typing import Any

from resfu.tasks import task_of
from resfu.tasks.run import RunFolder
from resfu.training.checkpoint_files import read_checkpoint
from resfu.training.data import TrainingData
from resfu.training.module import TrainingModule


def load_module(checkpoint: Path) -> TrainingModule:
    """Load the trained module of a checkpoint, in evaluation mode on the CPU.

    Args:
        checkpoint: a checkpoint of `resfu fit`, or `weights.ckpt` of a run of `resfu compare`.

    Returns:
        The module, with the names and colours of its classes or categories.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a file that is no such checkpoint.
    """
    content = read_checkpoint(checkpoint)
    try:
        settings = content["hyper_parameters"]
        task = task_of(settings["host"], content["datamodule_hyper_parameters"]["dataset"])
        # The checkpoint contains the encoder's weights, so its pretrained weights need not be fetched.
        module = task.module(**task.without_pretraining(accepted(task.module, settings)))
        module.load_state_dict(content["state_dict"])
        module.on_load_checkpoint(content)
    except Exception as error:  # other files raise many classes of errors
        raise ValueError(f"{checkpoint} is not a checkpoint of resfu that can be loaded ({error}).") from error
    return module.eval()


def load_data(checkpoint: Path, module: TrainingModule) -> TrainingData:
    """Build the data module with which a network was trained."""
    content = read_checkpoint(checkpoint)
    given = content["datamodule_hyper_parameters"]
    task = task_of(content["hyper_parameters"]["host"], given["dataset"])
    return task.data(**{**accepted(task.data, given), **task.data_arguments(module)})


def checkpoint_settings(checkpoint: Path) -> dict[str, Any]:
    """The settings of network and data in a checkpoint, in the form of a recipe.

    Raises:
        ValueError: for a file that is no checkpoint of `resfu fit`.
    """
    content = read_checkpoint(checkpoint)
    try:
        model, data = content["hyper_parameters"], content["datamodule_hyper_parameters"]
        task = task_of(model["host"], data["dataset"])
    except KeyError as error:
        raise ValueError(f"{checkpoint} is not a checkpoint of `resfu fit`.") from error
    return {
        "model": {key: value for key, value in accepted(task.module, model).items() if key not in task.derived},
        "data": {
            key: value
            for key, value in accepted(task.data, data).items()
            if key not in (*task.derived, "mean", "std", "images")
        },
    }


def find_weights(place: Path) -> dict[str, Path]:
    """Find the trained weights of a comparison, of a run of `resfu fit`, or of one checkpoint.

    Args:
        place: the output folder of `resfu compare`, the run's folder of `resfu fit`, or a `.ckpt` file.

    Returns:
        Files by upsampler. Of several seeds the first is taken, and of a run the best checkpoint, or else the last.

    Raises:
        FileNotFoundError: if `place` does not exist.
        ValueError: for a file that is no checkpoint of a network with an upsampler.
    """
    if not place.exists():
        raise FileNotFoundError(f"there is no checkpoint, run or comparison at {place}.")
    run = RunFolder(place)
    kept = [file for file in (run.best, run.weights, run.last) if file.is_file()]
    if kept:
        place = kept[0]
    elif place.is_dir():
        found: dict[str, Path] = {}
        for _, name, each in sorted(_runs(place), key=lambda entry: entry[0]):
            if each.finished:
                found.setdefault(name, each.weights)
        return found
    try:
        return {read_checkpoint(place, mmap=True)["hyper_parameters"]["upsampler"]: place}
    except KeyError as error:
        raise ValueError(f"{place} is not a checkpoint of resfu, or a damaged one.") from error


def accepted(constructor: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments that a constructor accepts; earlier versions, with one module for several tasks, had others."""
    known: set[str] = set()
    for base in constructor.__mro__:
        known |= set(inspect.signature(base).parameters) if "__init__" in vars(base) else set()
    return {key: value for key, value in arguments.items() if key in known}


def _runs(place: Path) -> list[tuple[int, str, RunFolder]]:
    split = [(folder, *folder.name.rpartition("-seed")) for folder in (place / "runs").glob("*-seed*")]
    return [(int(seed), name, RunFolder(folder)) for folder, name, _, seed in split if seed.isdecimal()]
