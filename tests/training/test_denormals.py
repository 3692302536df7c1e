"""Trainings take denormal numbers as 0, and leave the caller's mode as it was."""

import pytest
import torch
from lightning.pytorch import Callback

from resfu.recipes import merge, read_recipe
from resfu.tasks.experiment import Experiment
from resfu.tasks.run import RunFolder, train
from resfu.training.denormals import denormals_flushed


def halved_least_normal():
    return torch.full((64,), 2.0**-126).div(2)


@pytest.fixture(autouse=True)
def flushes():
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor has no such mode")
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("before", [False, True])
def test_the_mode_ends_with_the_context(before):
    torch.set_flush_denormal(before)
    with denormals_flushed():
        assert halved_least_normal().count_nonzero() == 0
    assert bool(halved_least_normal().count_nonzero() == 0) is before


def test_the_mode_ends_with_an_error():
    with pytest.raises(ValueError, match="stop"), denormals_flushed():
        raise ValueError("stop")
    assert halved_least_normal().count_nonzero() == 64


class Halve(Callback):
    """Computes denormal numbers within a training, forward and backward."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        start = torch.full((64,), 2.0**-126, requires_grad=True)
        (start / 2).sum().mul(2.0**-126).backward()
        self.forward, self.gradient = halved_least_normal(), start.grad


def test_training_has_no_denormal_numbers(tmp_path):
    own = {
        "data": {
            "options": {"size": [64, 64]},
            "train_options": {"count": 2},
            "eval_options": {"count": 1},
            "batch_size": 2,
            "crop_size": [64, 64],
        },
        "model": {"pretrained": False, "schedule": {"warmup_steps": 0}},
        "trainer": {"max_steps": 1, "val_check_interval": 1},
    }
    halve = Halve()
    train(Experiment(merge(read_recipe("scenes"), own)), RunFolder(tmp_path), callbacks=[halve], logs=False)
    assert halve.forward.count_nonzero() == halve.gradient.count_nonzero() == 0
    assert halved_least_normal().count_nonzero() == 64
