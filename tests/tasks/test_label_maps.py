import math

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, Trainer

from resfu.evaluation.semantic import SemanticMetrics
from resfu.tasks.label_maps import Inference, LabelMapModule
from resfu.training.parameter_groups import Optimisation
from resfu.training.quiet import known_warnings_ignored
from resfu.training.schedule import Schedule


class Losses(Callback):
    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.values.append(outputs["loss"].item())


def trainer(**options):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return Trainer(accelerator="cpu", enable_model_summary=False, log_every_n_steps=1, **{**quiet, **options})


def fit(task, data, **options):
    losses = Losses()
    with known_warnings_ignored():
        run = trainer(callbacks=[losses], **options)
        run.fit(task, datamodule=data)
    return losses.values, run


def test_training_lowers_the_loss_and_raises_the_metrics(toy_task, toy_data):
    task = toy_task(optimisation=Optimisation(learning_rate=0.03), schedule=Schedule(power=1.0))
    losses, run = fit(task, toy_data(), max_steps=60, check_val_every_n_epoch=20)
    assert len(losses) == 60
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
    assert run.callback_metrics["val/miou"] > 50
    assert {"val/miou", "val/macc", "val/aacc", "val/biou", "train/loss"} <= set(run.callback_metrics)
    assert run.optimizers[0].param_groups[0]["lr"] == 0  # the schedule has come to its end


def test_the_first_step_by_hand(toy_task, toy_data):
    """One step of plain SGD, recomputed from the batch without Lightning."""
    options = Optimisation(method="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.0, head_multiplier=3.0)
    task = toy_task(optimisation=options)
    task.host.head[0].p = 0.0  # no dropout, so that no random number is in the way
    twin = toy_task(optimisation=options)
    twin.host.head[0].p = 0.0
    data = toy_data()
    losses, _ = fit(task, data, max_steps=1, limit_val_batches=0)

    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    log_p = F.log_softmax(twin.train().host(batch["image"]), dim=1)
    valid = batch["label"] != 255
    picked = log_p.gather(1, batch["label"].where(valid, 0)[:, None])[:, 0]
    loss = -picked[valid].sum() / valid.sum()
    loss.backward()
    assert losses[0] == pytest.approx(loss.item(), rel=1e-6)
    for name, parameter in twin.host.named_parameters():
        rate = 0.1 if name.startswith("encoder.") else 0.3
        expected = parameter.detach() - rate * parameter.grad
        torch.testing.assert_close(task.host.get_parameter(name).detach(), expected, rtol=1e-5, atol=1e-7, msg=name)


def test_a_frozen_encoder_stays_as_it_is(toy_task, toy_data):
    task = toy_task(freeze_encoder=True, optimisation=Optimisation(learning_rate=0.1))
    before = {name: value.clone() for name, value in task.host.state_dict().items()}
    fit(task, toy_data(), max_steps=3)
    after = task.host.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"head.1.weight", "head.1.bias"}  # BatchNorm's statistics included
    assert task.host.training
    assert not task.host.encoder.training
    assert all(parameter.grad is None for parameter in task.host.encoder.parameters())


@pytest.mark.parametrize("accumulate", [1, 2])
def test_bf16_is_finite_and_near_fp32(toy_task, toy_data, accumulate):
    options = {"max_steps": 3, "accumulate_grad_batches": accumulate}
    full, _ = fit(toy_task(), toy_data(), **options)
    half, run = fit(toy_task(), toy_data(), precision="bf16-mixed", **options)
    assert run.global_step == 3
    assert len(half) == {1: 3, 2: 5}[accumulate]  # the third batch of the epoch steps alone
    assert all(map(math.isfinite, half))
    assert half == pytest.approx(full, rel=0.02)
    assert half != full


def test_the_losses_of_a_host_are_summed_and_logged(toy_task, toy_data, monkeypatch):
    task = toy_task()

    def losses(images, label, cross_entropy):
        return {"main": cross_entropy(task.host(images), label), "auxiliary": torch.tensor(0.25)}

    monkeypatch.setattr(task.host, "losses", losses)
    _, run = fit(task, toy_data(), max_steps=1)
    metrics = run.callback_metrics
    assert metrics["train/loss_auxiliary"] == 0.25
    torch.testing.assert_close(metrics["train/loss"], metrics["train/loss_main"] + 0.25)


def test_accumulated_batches_make_one_step(toy_task, toy_data):
    """Two batches of one, equally labelled, step as one batch of two."""
    options = {"optimisation": Optimisation(method="sgd", learning_rate=0.1), "freeze_encoder": True}
    options["loss_average"] = "all"
    results = []
    for batch, accumulate in ((2, 1), (1, 2)):
        task = toy_task(**options)
        task.host.head[0].p = 0.0
        _, run = fit(task, toy_data(batch_size=batch), max_steps=2, accumulate_grad_batches=accumulate)
        assert run.global_step == 2
        results.append(task.host.head[1].weight.detach())
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)


def test_validation_counts_every_image_at_the_size_of_its_label(toy_task, toy_data):
    task = toy_task()
    with known_warnings_ignored():
        data = toy_data(eval_batch_size=2)
        found = trainer().validate(task, datamodule=data, verbose=False)[0]
    expected = SemanticMetrics(3)
    task.eval()
    for sample in data.evaluated:
        prediction = task.host(sample["image"][None]).argmax(1)
        assert prediction.shape == (1, 16, 20)
        expected.update(prediction, sample["label"][None])
    values = expected.compute()
    assert found == pytest.approx({f"val/{key}": values[key] for key in ("miou", "macc", "aacc", "biou")}, rel=1e-6)
    torch.testing.assert_close(task.results["iou"], values["iou"], equal_nan=True)


def test_a_data_set_is_opened_once_for_each_run(toy_task, toy_data, monkeypatch):
    opened, data, task = [], toy_data(), toy_task()
    open_split = data.open_split
    monkeypatch.setattr(
        data, "open_split", lambda *given, **options: opened.append(given[0]) or open_split(*given, **options)
    )
    with known_warnings_ignored():
        trainer(max_steps=1).fit(task, datamodule=data)
        assert sorted(opened) == ["train", "val"]
        trainer().validate(task, datamodule=data, verbose=False)
    assert sorted(opened) == ["train", "val", "val"]


def test_logits_of_another_size_are_resized_to_the_label(toy_task):
    task = toy_task().eval()
    image = torch.randn(1, 3, 8, 10)
    label = F.interpolate(task.host(image), size=(16, 20), mode="bilinear", align_corners=False).argmax(1)
    task.validation_step({"image": image, "label": label, "name": ["x"]}, 0)
    assert task.metrics.compute()["aacc"] == 100


def test_the_sliding_window_is_passed_on(toy_task, toy_data):
    whole, slide = (
        toy_task(inference=inference).eval()
        for inference in (Inference(), Inference(mode="slide", crop_size=(8, 8), stride=(8, 6)))
    )
    image = torch.randn(1, 3, 16, 20)
    seen = []
    slide.host.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape[-2:])))
    first = slide.predict_step({"image": image, "name": ["x"]}, 0)["label_map"]
    assert seen == [(8, 8)] * 6
    assert first.shape == whole.predict_step({"image": image, "name": ["x"]}, 0)["label_map"].shape == (1, 16, 20)
    assert first.dtype == torch.uint8


def test_the_test_ends_with_a_table_of_the_classes(toy_task, toy_data, capsys):
    with known_warnings_ignored():
        trainer().test(toy_task(), datamodule=toy_data(), verbose=False)
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[1]: line for line in lines if len(line.split()) > 2}
    assert {"ground", "square", "never"} <= rows.keys()
    assert rows["never"].split()[5] == "-"  # accuracy of a class without a labelled pixel
    assert rows["right:"].split()[:2] == ["pixels", "right:"]
    assert 0 < float(rows["right:"].split()[2]) < 100


def test_a_checkpoint_makes_the_same_task_again(toy_task, toy_data, tmp_path):
    task = toy_task(freeze_encoder=True, schedule=Schedule(power=0.5), inference=Inference("slide", (8, 8), (4, 4)))
    _, run = fit(task, toy_data(), max_steps=1, limit_val_batches=0)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = LabelMapModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.hparams == task.hparams
    assert (again.schedule, again.inference, again.optimisation) == (task.schedule, task.inference, task.optimisation)
    assert again.classes == ("ground", "square", "never")
    assert again.palette == [[0, 0, 0], [255, 0, 0], [0, 0, 255]]
    image = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(again.eval()(image), task.eval()(image), rtol=0, atol=0)


def test_host_options_reach_the_host_and_the_checkpoint(toy_data, tmp_path):
    options = {"depth": 1, "image_size": 32, "antialias_positions": False, "continuation": "zeros"}
    task = LabelMapModule("segmenter-vit-s", "bilinear", num_classes=3, host_options=options)
    assert (task.host.continuation, task.host.encoder.antialias_positions) == ("zeros", False)
    _, run = fit(task, toy_data(), max_steps=1, limit_val_batches=0)
    run.save_checkpoint(tmp_path / "a.ckpt")
    again = LabelMapModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.hparams["host_options"] == options
    assert again.host.continuation == "zeros"


def test_labels_and_the_ignored_one_fit_into_8_bits(toy_task):
    LabelMapModule("toy", "bilinear", num_classes=255)
    with pytest.raises(ValueError, match="num_classes must be at most 255, got 256: the label 255 is ignored"):
        LabelMapModule("toy", "bilinear", num_classes=256)


def test_bad_combinations_are_refused(toy_task, toy_data):
    torch.manual_seed(0)
    with known_warnings_ignored():
        task = LabelMapModule("toy", "bilinear", num_classes=5)
        with pytest.raises(ValueError, match="num_classes is 5 in the network and 3 in the data set"):
            trainer(max_steps=1).fit(task, datamodule=toy_data())
        with pytest.raises(ValueError, match=r"an endless training needs schedule\.total_steps"):
            trainer(max_epochs=-1).fit(toy_task(), datamodule=toy_data())
    with pytest.raises(ValueError, match="unknown host 'toyy'"):
        LabelMapModule("toyy")
