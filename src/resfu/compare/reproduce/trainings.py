"""The published trainings: each is trained from its recipe and measured on the test split."""

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
from resfu.files.atomic import read_json, write_json
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
        name: from `row_name`.
        row: to reproduce.
        folder: of the run.
        seed: of the run.
    """

    name: str
    row: PublishedRow
    folder: RunFolder
    seed: int

    def experiment(self, settings: Mapping[str, Any]) -> Experiment:
        """The experiment; `settings` override the recipe's."""
        own = {"seed_everything": self.seed}
        return Experiment(read_recipe(recipe_name(self.row)), row_settings(self.row), own, settings)

    def carry_out(self, settings: Mapping[str, Any], console: Console) -> None:
        """Train and measure, unless an earlier call did.

        Raises:
            ValueError: for invalid settings, or a training that ended before its planned steps.
            KeyboardInterrupt: on Ctrl-C; the next call resumes from the last checkpoint.
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
        """Raise a ValueError unless the training has a checkpoint and all its planned steps."""
        last = self.folder.last
        if not last.is_file():
            raise ValueError(f"the training of {self.name} left no {last}: there is nothing to measure.")
        done, planned = read_progress(last)
        if done < planned:
            raise ValueError(
                f"{last} is not measured: it has had {done} of {planned} steps. Repeat the command to resume; if a "
                "setting ends it early, such as --trainer.max_time, give another --output without it."
            )


def plan(rows: Iterable[PublishedRow], output: Path, seeds: Sequence[int]) -> list[Training]:
    """The trainings of rows; rows with the same network share one.

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
    """Record the settings in the output folder; once it has a checkpoint, they may not change.

    Args:
        output: folder of all runs.
        settings: override the recipes'.

    Raises:
        ValueError: if an earlier call had other settings.
    """
    file = output / "settings.json"
    before = read_json(file) if file.is_file() else dict(settings)
    if before != dict(settings) and any(output.glob("runs/*/checkpoints/*.ckpt")):
        earlier = json.dumps(before) if before else "none"
        raise ValueError(f"{output} holds trainings with other settings ({earlier}): give these, or another --output.")
    write_json(file, dict(settings))


def measured(row: PublishedRow, trainings: Iterable[Training]) -> Measured | None:
    """The results of a row's finished trainings, or None."""
    name = row_name(row)
    files = [each.folder.metrics for each in trainings if each.name == name and each.folder.finished]
    runs = [read_json(file) for file in files]
    if not runs:
        return None
    values = {score.key: [run.get(score.key) for run in runs] for score in scores_of(row)}
    metrics = {key: Spread(tuple(found)) for key, found in values.items() if None not in found}
    for score in additions_to(row):  # only from runs that have it: without a found organ there is no distance
        found = tuple(run[score.key] for run in runs if run.get(score.key) is not None)
        metrics |= {score.key: Spread(found)} if found else {}
    return Measured(metrics, runs[0]["parameters"])
