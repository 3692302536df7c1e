"""A training that is interrupted and resumed is the training that was not: bit for bit, on the CPU."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from resfu.training.record import Record
from resfu.training.schedule import Schedule
from resfu.training.scores import Score

STEPS = 7


class PowerCutError(Exception):
    pass


class Recorder(Callback):
    """Notes every step, and cuts the power after some."""

    def __init__(self, cut_after: int | None) -> None:
        self.steps = []
        self.cut_after = cut_after

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        loss = outputs["loss"].item()
        self.steps.append((trainer.global_step, trainer.current_epoch, batch_idx, batch["name"], loss, rates))

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.cut_after:
            raise PowerCutError


@pytest.fixture
def train(toy_task, toy_data):
    def run(path, cut_after=None, resume=False, workers=0, checkpoint=None, **options):
        task = toy_task(optimisation=Optimisation(learning_rate=0.02, head_multiplier=3), schedule=Schedule())
        recorder = Recorder(cut_after)
        trainer = Trainer(
            accelerator="cpu",
            max_steps=STEPS,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[recorder, checkpoint or LastCheckpoint(path, every=1)],
            **options,
        )
        with known_warnings_ignored():
            try:
                trainer.fit(task, datamodule=toy_data(num_workers=workers), ckpt_path=path if resume else None)
            except PowerCutError:
                assert cut_after is not None
        return recorder.steps, task.state_dict()

    return run


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"val_check_interval": 2, "check_val_every_n_epoch": None},
        {"accumulate_grad_batches": 2},
        {"limit_train_batches": 2},
    ],
    ids=["epochs of 3 batches", "validation within an epoch", "accumulation", "cut epochs"],
)
def test_cut_at_any_step(train, tmp_path, options):
    whole, weights = train(tmp_path / "whole.ckpt", **options)
    assert len({tuple(step[3]) for step in whole}) > 3  # the batches differ
    for cut in range(1, STEPS):
        path = tmp_path / f"{cut}.ckpt"
        before, _ = train(path, cut_after=cut, **options)
        after, resumed = train(path, resume=True, **options)
        # Exact equality of losses is meant.
        for step, (a, b) in enumerate(itertools.zip_longest(whole, before + after)):
            assert a == b, (cut, step)
        assert_same_weights(weights, resumed)


def test_with_worker_processes(train, tmp_path):
    whole, weights = train(tmp_path / "whole.ckpt")
    before, _ = train(tmp_path / "cut.ckpt", cut_after=4, workers=1)
    after, resumed = train(tmp_path / "cut.ckpt", resume=True, workers=1)
    assert before + after == whole
    assert_same_weights(weights, resumed)


def test_from_a_checkpoint_taken_after_validation(train, tmp_path):
    every = {"save_top_k": -1, "filename": "{step}", "auto_insert_metric_name": False}
    whole, weights = train(None, checkpoint=ModelCheckpoint(tmp_path, **every))
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["3", "6", "7"]  # the ends of the epochs, and of all
    for step in (3, 6):
        after, resumed = train(tmp_path / f"{step}.ckpt", resume=True)
        assert after == whole[step:]
        assert_same_weights(weights, resumed)


def test_curves_and_the_best_score_survive_a_cut_after_validation(toy_task, toy_data, tmp_path):
    """After a power cut behind a validation its score is known, and a worse one does not become the best."""

    class Cut(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 4:
                raise PowerCutError

    def run(folder, *more, resume=False):
        record = Record(Score("miou", "mIoU"))
        best = ModelCheckpoint(folder, "best", monitor="val/miou", mode="max", enable_version_counter=False)
        trainer = Trainer(
            accelerator="cpu",
            max_steps=STEPS,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[record, *more, best, LastCheckpoint(folder / "last.ckpt", every=2)],
            val_check_interval=2,
            check_val_every_n_epoch=None,
        )
        with known_warnings_ignored():
            path = folder / "last.ckpt" if resume else None
            trainer.fit(toy_task(schedule=Schedule()), datamodule=toy_data(), ckpt_path=path)
        return record.quality, best.best_model_score

    whole, best = run(tmp_path / "whole")
    assert [step for step, _ in whole] == [2, 4, 6]
    with pytest.raises(PowerCutError):
        run(tmp_path / "cut", Cut())
    resumed, best_resumed = run(tmp_path / "cut", resume=True)
    assert resumed == whole
    assert best_resumed == best == max(score for _, score in whole)


def test_the_last_checkpoint_is_saved_at_intervals_and_at_the_end(toy_task, toy_data, tmp_path):
    saved = []

    class Spy(LastCheckpoint):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            before = self.saved
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
            if self.saved != before:
                saved.append(self.saved)

    with known_warnings_ignored():
        Trainer(
            accelerator="cpu",
            max_steps=STEPS,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Spy(tmp_path / "folder" / "last.ckpt", every=3)],
            accumulate_grad_batches=2,
        ).fit(toy_task(), datamodule=toy_data())
    assert saved == [3, 6, 7]
    assert torch.load(tmp_path / "folder" / "last.ckpt", weights_only=True)["global_step"] == 7
    with pytest.raises(ValueError, match="at least 1, got 0"):
        LastCheckpoint(tmp_path / "x.ckpt", every=0)


@pytest.mark.parametrize(("planned", "every"), [(5, 1), (300, 30), (2400, 240), (160_000, 500), (float("inf"), 500)])
def test_a_short_training_is_saved_ten_times(tmp_path, planned, every):
    checkpoint = LastCheckpoint(tmp_path / "last.ckpt")
    checkpoint.on_train_start(SimpleNamespace(estimated_stepping_batches=planned), None)
    assert checkpoint.every == every
