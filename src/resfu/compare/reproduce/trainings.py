"""The published trainings, one after the other: each trained from its recipe and measured on the test split."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from resfu.compare.reproduce.rows import recipe_name, row_name, row_settings
from resfu.compare.reproduce.side_by_side import Measured, additions_to, scores_of
from resfu.compare.summary import Spread
from resfu.evaluation.cost.host import inference_parameters
from resfu.evaluation.published import PublishedRow
from resfu.files.atomic import write_json
from resfu.recipes import read_recipe
from resfu.tasks.experiment import Experiment
from resfu.tasks.run import RunFolder, console_progress, train
from resfu.training.interruption import interruptible
from resfu.training.last_checkpoint import read_progress
from resfu.training.quiet import known_warnings_ignored
from resfu.training.scores import plain


@dataclass(frozen=True)
class Training:
    """One published row and seed.

    Args:
        name: as `row_name` gives it.
        row: that it reproduces.
        folder: of the run.
        seed: of the run.
    """

    name: str
    row: PublishedRow
    folder: RunFolder
    seed: int

    def experiment(self, settings: Mapping[str, Any]) -> Experiment:
        """What is trained, with further settings over the recipe's."""
        own = {"seed_everything": self.seed}
        return Experiment(read_recipe(recipe_name(self.row)), row_settings(self.row), own, settings)

    def carry_out(self, settings: Mapping[str, Any], console: Console) -> None:
        """Train and measure what an earlier call has not.

        Raises:
            ValueError: for settings that make no training, or one that ended before it had the steps it was to have.
            KeyboardInterrupt: the last checkpoint stays, and the next call goes on from it.
        """
        console.print(f"{self.name}, seed {self.seed}: {self.folder.state}", highlight=False)
        if self.folder.finished:
            return
        experiment = self.experiment(settings)
        checkpoint = self.folder.last if self.folder.last.is_file() else None
        progress = console_progress(experiment, console, f"{self.name}, seed {self.seed}")
        trained = train(experiment, self.folder, checkpoint=checkpoint, progress=progress)
        self.check_whole()
        with known_warnings_ignored(), interruptible():
            trained.trainer.test(trained.module, datamodule=trained.data, verbose=False)
        if trained.trainer.is_global_zero:
            parameters = inference_parameters(trained.module.host)
            write_json(self.folder.metrics, {"parameters": parameters, **plain(trained.module.results)})

    def check_whole(self) -> None:
        """Refuse to measure what is not trained to the end.

        Raises:
            ValueError: for a training without a checkpoint, or that has not had the steps it was to have.
        """
        last = self.folder.last
        if not last.is_file():
            raise ValueError(f"the training of {self.name} left no {last}: there is nothing to measure.")
        done, planned = read_progress(last)
        if done < planned:
            raise ValueError(
                f"{last} is not measured: it has had {done} of {planned} steps. The same command goes on; if a "
                "setting ends it early, such as --trainer.max_time, give another --output without that."
            )


def plan(rows: Iterable[PublishedRow], output: Path, seeds: Sequence[int]) -> list[Training]:
    """The trainings that rows stand for; rows that are the same network share one.

    Args:
        rows: of the published tables.
        output: folder of all runs.
        seeds: one training per network and seed.
    """
    named = {row_name(row): row for row in reversed(list(rows))}
    return [
        Training(name, row, RunFolder(output / "runs" / f"{name}-seed{seed}"), seed)
        for name, row in reversed(named.items())
        for seed in seeds
    ]


def claim(output: Path, settings: Mapping[str, Any]) -> None:
    """Keep an output folder to one set of settings, from the first checkpoint on.

    Args:
        output: folder of all runs.
        settings: over the recipes'.

    Raises:
        ValueError: when an earlier call had others.
    """
    file = output / "settings.json"
    before = json.loads(file.read_text("utf-8")) if file.is_file() else dict(settings)
    if before != dict(settings) and any(output.glob("runs/*/checkpoints/*.ckpt")):
        words = json.dumps(before) if before else "none"
        raise ValueError(f"{output} holds trainings with other settings ({words}): give these, or another --output.")
    write_json(file, dict(settings))


def measured(row: PublishedRow, trainings: Iterable[Training]) -> Measured | None:
    """What the finished trainings of a row gave; None without any."""
    name = row_name(row)
    files = [each.folder.metrics for each in trainings if each.name == name and each.folder.finished]
    runs = [json.loads(file.read_text("utf-8")) for file in files]
    if not runs:
        return None
    values = {score.key: [run.get(score.key) for run in runs] for score in scores_of(row)}
    metrics = {key: Spread(tuple(found)) for key, found in values.items() if None not in found}
    for score in additions_to(row):  # from the runs that have it: there is no distance where nothing was found
        found = tuple(run[score.key] for run in runs if run.get(score.key) is not None)
        metrics |= {score.key: Spread(found)} if found else {}
    return Measured(metrics, runs[0]["parameters"])
