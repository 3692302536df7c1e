"""No training ends well with weights that are not finite, and none of its checkpoints has such."""

import math

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins import MixedPrecision

import resfu.hosts
from resfu.tasks.label_maps import LabelMapModule
from resfu.training.checkpoint_files import WholeCheckpoints, read_checkpoint
from resfu.training.divergence import DivergenceError, FiniteTraining, not_finite
from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from tests.support.toys import ToyHost

STEPS = 6


class BrokenGradient(torch.autograd.Function):
    """The identity with a gradient that is NaN at one call, as a faulty kernel's."""

    calls = 0

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        BrokenGradient.calls += 1
        return gradient * math.nan if BrokenGradient.calls == 4 else gradient


class BrokenHost(ToyHost):
    def forward(self, images):
        return self.head(BrokenGradient.apply(self.encoder(images)))


@pytest.fixture(autouse=True)
def _broken(monkeypatch):
    monkeypatch.setattr(BrokenGradient, "calls", 0)
    monkeypatch.setitem(resfu.hosts.HOSTS, "broken", BrokenHost)


@pytest.fixture
def fit(toy_task, toy_data, tmp_path):
    def run(task=None, host=None, callbacks=(), every=1, **options):
        task = task or toy_task()
        if host is not None:
            task.host = host("bilinear", 3, False, None)
        guard = FiniteTraining("the training", "Do something.", tmp_path)
        with known_warnings_ignored():
            trainer = Trainer(
                accelerator="cpu",
                max_steps=STEPS,
                logger=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                callbacks=[guard, LastCheckpoint(tmp_path / "last.ckpt", every), *callbacks],
                **{"plugins": [WholeCheckpoints()], **options},
            )
            trainer.fit(task, datamodule=toy_data())
        return trainer

    return run


def test_a_gradient_that_is_nan_stops_at_its_step(fit, tmp_path):
    """The loss of that step is fine, and the next one would be too late for the checkpoint of this."""
    words = (
        r"^the training diverged: its loss is \d\.\d+ at step 4, and not finite: host\.encoder\.0\.weight and \d more"
    )
    with pytest.raises(
        DivergenceError, match=words + r"\. Do something\. The last good checkpoint stays: .*/last\.ckpt"
    ):
        fit(host=BrokenHost)
    content = read_checkpoint(tmp_path / "last.ckpt")
    assert content["global_step"] == 3
    assert not_finite(content["state_dict"]) == []


def test_a_learning_rate_that_is_too_high_stops(fit, toy_task, tmp_path):
    with pytest.raises(DivergenceError, match="diverged"):
        fit(toy_task(optimisation=Optimisation(method="sgd", learning_rate=1e30)))
    assert not_finite(read_checkpoint(tmp_path / "last.ckpt")["state_dict"]) == [] if list(tmp_path.iterdir()) else True


def test_a_running_statistic_counts(fit):
    class Spoil(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            if trainer.global_step == 2:
                pl_module.host.encoder[1].running_var[0] = math.inf

    with pytest.raises(DivergenceError, match=r"not finite: host\.encoder\.1\.running_var\."):
        fit(callbacks=[Spoil()])


def scaler(scale):
    return {"plugins": [MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", scale)), WholeCheckpoints()]}


def test_under_a_scaler_gradients_may_be_infinite(fit, toy_task):
    trainer = fit(task := toy_task(), **scaler(2.0**40))
    assert trainer.global_step == STEPS
    assert trainer.precision_plugin.scaler.get_scale() == 2.0 ** (40 - STEPS)  # each step was left out
    assert all(torch.equal(a, b) for a, b in zip(task.parameters(), toy_task().parameters(), strict=True))


def test_under_a_scaler_losses_may_be_infinite_for_a_while(fit, toy_task, monkeypatch):
    step = LabelMapModule.training_step

    def infinite(self, batch, index):
        return step(self, batch, index) + (math.inf if self.global_step >= 2 else 0)

    monkeypatch.setattr(LabelMapModule, "training_step", infinite)
    with pytest.raises(DivergenceError, match="its loss is inf at step 3"):
        fit(toy_task())
    assert fit(toy_task(), **scaler(1.0)).global_step == STEPS
    monkeypatch.setattr("resfu.training.divergence._SKIPPED", 3)
    with pytest.raises(DivergenceError, match="its loss is inf at step 6"):
        fit(toy_task(), **scaler(1.0))


def test_no_checkpoint_is_written_with_such_weights(tmp_path):
    writer, file = WholeCheckpoints(), tmp_path / "best.ckpt"
    writer.save_checkpoint({"state_dict": {"w": torch.ones(3)}, "global_step": 1}, file)
    with pytest.raises(DivergenceError, match=r"best\.ckpt is not written: at step 2 w .* is not finite.* is kept"):
        writer.save_checkpoint({"state_dict": {"w": torch.tensor([1, math.nan])}, "global_step": 2}, file)
    assert torch.equal(read_checkpoint(file)["state_dict"]["w"], torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64])
def test_not_finite(dtype):
    large = torch.full((100,), 60000.0, dtype=dtype)  # its sum overflows in half precision
    bad = torch.tensor([1.0, -math.inf], dtype=dtype)
    others = {"integer": torch.tensor([1]), "empty": torch.empty(0), "text": "x"}
    assert not_finite({"large": large, **others}) == []
    assert not_finite({"large": large, "a": bad, **others, "b": bad * 0}) == ["a", "b"]
    assert not_finite({}) == []
