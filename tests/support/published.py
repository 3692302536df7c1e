"""The published rows as experiments, each made once a test run."""

import csv
from functools import cache

import torch

from resfu.compare.reproduce.rows import TABLES, recipe_name, row_name, row_settings
from resfu.evaluation.published import published_rows
from resfu.recipes import read_recipe
from resfu.tasks.experiment import Experiment

ROWS = published_rows(TABLES)


def named(*tables):
    """The rows of some tables by the names of their trainings."""
    return {row_name(row): row for row in ROWS if row.table in tables}


@cache
def experiment_of(name):
    """What trains a row, by the name of its training."""
    row = named(*TABLES)[name]
    return Experiment(read_recipe(recipe_name(row)), row_settings(row))


def module_of(experiment):
    """Its network without memory for weights, as it is when its pretrained encoder has come from a checkpoint."""
    model = experiment.task.without_pretraining(experiment.settings["model"])
    with torch.device("meta"):
        return experiment.task.module(**model)


def losses(run, version=0):
    """The step and the loss of every line of a run's log."""
    with (run / "logs" / f"version_{version}" / "metrics.csv").open() as file:
        return [(int(row["step"]), float(row["train/loss"])) for row in csv.DictReader(file) if row["train/loss"]]
