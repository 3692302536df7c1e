import re

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.quiet import known_warnings_ignored
from resfu.training.step_bar import StepBar


@pytest.fixture
def fit(toy_task, toy_data, tmp_path, capsys):
    """Train on 3 batches an epoch with a bar, and return what is seen when it ends."""

    def run(ckpt_path=None, **options):
        with known_warnings_ignored():  # that of a logging interval above 3 is among them
            trainer = Trainer(
                accelerator="cpu",
                logger=CSVLogger(tmp_path),
                log_every_n_steps=50,
                enable_checkpointing=False,
                enable_model_summary=False,
                callbacks=[StepBar(), LastCheckpoint(tmp_path / "last.ckpt")],
                **options,
            )
            trainer.fit(toy_task(), datamodule=toy_data(), ckpt_path=ckpt_path)
        return re.sub("[━╸╺ ]+", " ", capsys.readouterr().out)

    return run


def test_steps_are_counted_over_the_whole_training(fit, tmp_path):
    assert fit(max_steps=7).startswith("Training 7/7 ")
    assert fit(max_steps=8, ckpt_path=tmp_path / "last.ckpt").startswith("Training 8/8 ")


def test_epochs_and_accumulated_batches_count_as_steps_too(fit):
    assert fit(max_epochs=2, accumulate_grad_batches=2).startswith("Training 4/4 ")
