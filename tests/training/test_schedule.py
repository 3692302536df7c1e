import pytest
import torch

from resfu.training.schedule import Schedule, poly_scheduler


def test_sgd_recipe_by_hand():
    schedule = Schedule(power=0.9, minimum=1e-4)
    assert schedule.learning_rate(0, 0.01, 1000) == pytest.approx(0.01)
    # (0.01 - 0.0001) * 0.5 ** 0.9 + 0.0001, and 0.1 ** 0.9 = 0.12589...
    assert schedule.learning_rate(500, 0.01, 1000) == pytest.approx(0.0099 * 0.5358867312681466 + 0.0001)
    assert schedule.learning_rate(900, 0.01, 1000) == pytest.approx(0.0099 * 0.1258925411794167 + 0.0001)
    assert schedule.learning_rate(1000, 0.01, 1000) == pytest.approx(1e-4)
    assert schedule.learning_rate(1500, 0.01, 1000) == pytest.approx(1e-4)


def test_segformer_recipe_by_hand():
    schedule = Schedule(power=1.0, warmup_steps=1500, warmup_ratio=1e-6)
    assert schedule.learning_rate(0, 6e-5, 160_000) == pytest.approx(6e-11)
    assert schedule.learning_rate(750, 6e-5, 160_000) == pytest.approx(6e-5 * 0.5000005)
    assert schedule.learning_rate(1500, 6e-5, 160_000) == pytest.approx(6e-5)
    assert schedule.learning_rate(80_750, 6e-5, 160_000) == pytest.approx(3e-5)  # half of the way that is left
    assert schedule.learning_rate(160_000, 6e-5, 160_000) == 0


def test_the_scheduler_sets_every_group():
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.1},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 1.0},
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 50.0, "gradient_multiplier": 500.0},
    ]
    optimizer = torch.optim.SGD(groups)
    scheduler = poly_scheduler(optimizer, Schedule(power=1.0, minimum=0.05), total_steps=4)
    seen = []
    for _ in range(5):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    # The minimum is the same for both rates; a multiplied gradient multiplies it too: the third is 500 x the first.
    assert [lr[0] for lr in seen] == pytest.approx([0.1, 0.0875, 0.075, 0.0625, 0.05])
    assert [lr[1] for lr in seen] == pytest.approx([1.0, 0.7625, 0.525, 0.2875, 0.05])
    assert [lr[2] for lr in seen] == pytest.approx([500 * lr[0] for lr in seen])


def test_its_own_length_goes_before_that_of_the_training():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = poly_scheduler(optimizer, Schedule(power=1.0, total_steps=10), total_steps=2)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.9)


@pytest.mark.parametrize("options", [{"power": -1.0}, {"warmup_steps": -1}, {"minimum": -1e-9}, {"warmup_ratio": -0.1}])
def test_negative_values_are_refused(options):
    with pytest.raises(ValueError, match=f"schedule.{next(iter(options))} must not be negative"):
        Schedule(**options)


def test_a_warmup_as_long_as_the_training_is_refused():
    with pytest.raises(ValueError, match=r"total_steps \(5\) must be above schedule.warmup_steps \(5\)"):
        Schedule(warmup_steps=5, total_steps=5)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(ValueError, match=r"warmup_steps \(5\) must be below the steps of the training \(3\)"):
        poly_scheduler(optimizer, Schedule(warmup_steps=5), total_steps=3)


def test_drops_by_hand():
    schedule = Schedule(power=0, warmup_steps=500, warmup_ratio=1e-3, drops=(0.6666667, 0.9166667))
    # 12 epochs of 1,000 steps: the published schedule of 12 epochs drops after 8 and after 11.
    rates = [schedule.learning_rate(step, 0.02, 12_000) for step in (0, 250, 500, 7999, 8000, 10_999, 11_000, 12_000)]
    assert rates == pytest.approx([2e-5, 0.01001, 0.02, 0.02, 0.002, 0.002, 0.0002, 0.0002])
    assert Schedule(power=0, drops=(0.5,), drop_factor=0.3).learning_rate(5, 1.0, 10) == pytest.approx(0.3)
    for drops in ((0.0,), (1.0,), (0.5, 0.5), (0.9, 0.5)):
        with pytest.raises(ValueError, match=r"schedule\.drops are parts of the training"):
            Schedule(drops=drops)
