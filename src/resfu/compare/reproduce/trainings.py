"""The published trainings, one after the other: each a run of `resfu fit`, measured by `resfu test`."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from resfu.compare.reproduce.rows import recipe_name
from resfu.compare.reproduce.side_by_side import Measured, metrics_of
from resfu.compare.summary import Spread
from resfu.evaluation.published import PublishedRow
from resfu.files.atomic import write_json
from resfu.training.last_checkpoint import read_progress

# What the published tables of volumes call the means that `resfu test` writes.
_VOLUME_KEYS = {"mean_dice": "mdice", "hd95": "mhd95"}
# Carries out `resfu WORDS` and returns its exit code.
Command = Callable[[list[str]], int]


@dataclass(frozen=True)
class Training:
    """One recipe and seed.

    Args:
        name: as `recipe_name` gives it.
        recipe: its file.
        folder: of the run.
        seed: of the run.
    """

    name: str
    recipe: Path
    folder: Path
    seed: int

    @property
    def metrics(self) -> Path:
        """Written last: a training that has it is finished."""
        return self.folder / "metrics.json"

    @property
    def state(self) -> str:
        """In words what an earlier call did."""
        if self.metrics.is_file():
            return "finished before"
        return "goes on from its checkpoint" if self.last.is_file() else "begins"

    def commands(self, root: str | None, options: Sequence[str]) -> list[list[str]]:
        """The words of `resfu fit` and `resfu test` that are still to do.

        Args:
            root: folder of the data.
            options: further ones of `resfu fit`; those of the trainer are `resfu test`'s too.
        """
        if self.metrics.is_file():
            return []
        place = ["--run", str(self.folder), *(["--data.root", root] if root is not None else [])]
        resumed = ["--ckpt_path", "last"] if self.last.is_file() else []
        seed = ["--seed_everything", str(self.seed)]
        return [
            ["fit", "--config", str(self.recipe), *place, *seed, *resumed, *options],
            ["test", *place, "--ckpt_path", "last", "--metrics", str(self.metrics), *_of_the_trainer(options)],
        ]

    @property
    def last(self) -> Path:
        """Its checkpoint."""
        return self.folder / "checkpoints" / "last.ckpt"

    def check_whole(self) -> None:
        """Refuse to measure what is not trained to the end.

        Raises:
            ValueError: for a training without a checkpoint, or that has not had the steps it was to have.
        """
        if not self.last.is_file():
            raise ValueError(f"`resfu fit` of {self.name} left no {self.last}: there is nothing to measure.")
        done, planned = read_progress(self.last)
        if done < planned:
            raise ValueError(
                f"{self.last} is not measured: it has had {done} of {planned} steps. The same command goes on; if an "
                "option ends it early, such as --trainer.max_time, give another --output without that."
            )


def plan(rows: Iterable[PublishedRow], recipes: Path, output: Path, seeds: Sequence[int]) -> list[Training]:
    """The trainings that rows stand for; rows with the same recipe share one.

    Args:
        rows: of the published tables.
        recipes: folder of the recipes.
        output: folder of all runs.
        seeds: one training per recipe and seed.

    Raises:
        FileNotFoundError: when a recipe is not there.
    """
    trainings = []
    for name in dict.fromkeys(recipe_name(row) for row in rows):
        recipe = recipes / f"{name}.yaml"
        if not recipe.is_file():
            raise FileNotFoundError(f"there is no recipe {recipe}: run it in a checkout of resfu, or give --recipes.")
        for seed in seeds:
            folder = output / "runs" / f"{recipe.stem}-seed{seed}"
            trainings.append(Training(name, recipe, folder, seed))
    return trainings


def claim(output: Path, options: Sequence[str]) -> None:
    """Keep an output folder to one set of options, from the first checkpoint on.

    Args:
        output: folder of all runs.
        options: what `train` is going to get.

    Raises:
        ValueError: when an earlier call had others.
    """
    file = output / "options.json"
    before = json.loads(file.read_text("utf-8")) if file.is_file() else list(options)
    if before != list(options) and any(output.glob("runs/*/checkpoints/*.ckpt")):
        words = " ".join(before) or "none"
        raise ValueError(f"{output} holds trainings with other options ({words}): give these, or another --output.")
    write_json(file, list(options), indent=None)


def train(
    trainings: Iterable[Training], root: str | None, options: Sequence[str], command: Command, console: Console
) -> None:
    """Carry out what is left of some trainings.

    Args:
        trainings: of `plan`.
        root: folder of the data.
        options: further ones of `resfu fit`.
        command: carries out one command.
        console: says what is done.

    Raises:
        ValueError: when a command fails, or a training did not reach its end.
        KeyboardInterrupt: when a command was interrupted; the next call goes on.
    """
    for training in trainings:
        console.print(f"{training.name}, seed {training.seed}: {training.state}", highlight=False)
        for words in training.commands(root, options):
            if words[0] == "test":
                training.check_whole()
            code = command(words)
            if code == 130:
                raise KeyboardInterrupt
            if code:
                raise ValueError(f"`resfu {words[0]}` of {training.name} ended with the exit code {code}; see above.")


def measured(name: str, trainings: Iterable[Training]) -> Measured | None:
    """What the finished trainings of a recipe gave; None without any."""
    files = [training.metrics for training in trainings if training.name == name and training.metrics.is_file()]
    runs = [json.loads(file.read_text("utf-8")) for file in files]
    if not runs:
        return None
    keys = _VOLUME_KEYS if "mdice" in runs[0] else {key: key for key in metrics_of(runs[0])}
    values = {key: tuple(run[ours] for run in runs) for key, ours in keys.items()}
    metrics = {key: Spread(found) for key, found in values.items() if None not in found}
    return Measured(metrics, runs[0]["parameters"])


def _of_the_trainer(options: Sequence[str]) -> list[str]:
    found: list[str] = []
    for i, word in enumerate(options):
        if word.startswith("--trainer."):
            found += options[i : i + 1 if "=" in word else i + 2]
    return found
