import io
import re

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from resfu.training.last_checkpoint import LastCheckpoint
from resfu.training.progress import TrainingProgress, _clock
from resfu.training.quiet import known_warnings_ignored
from resfu.training.scores import Score

MIOU = Score("miou", "mIoU")


@pytest.fixture
def fit(toy_task, toy_data, tmp_path):
    """Train on 3 batches an epoch with a bar or with lines, and return what is seen."""

    def run(terminal=True, every: float | None = 10.0, ckpt_path=None, **options):
        console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
        progress = TrainingProgress(console, MIOU, every=every)
        with known_warnings_ignored():  # that of a logging interval above 3 is among them
            trainer = Trainer(
                accelerator="cpu",
                logger=CSVLogger(tmp_path),
                log_every_n_steps=50,
                enable_model_summary=False,
                enable_progress_bar=False,
                callbacks=[progress, LastCheckpoint(tmp_path / "last.ckpt")],
                **options,
            )
            trainer.fit(toy_task(), datamodule=toy_data(), ckpt_path=ckpt_path)
        (row,) = progress._bar.tasks
        return (row.completed, row.total, row.fields["words"]), console.file.getvalue()

    return run


def test_steps_are_counted_over_the_whole_training(fit, tmp_path):
    (done, total, words), _ = fit(max_steps=7, val_check_interval=1.0)
    assert (done, total) == (7, 7)
    assert re.fullmatch(r"loss \d\.\d{3}  mIoU \d+\.\d", words)
    assert fit(max_steps=8, ckpt_path=tmp_path / "last.ckpt")[0][:2] == (8, 8)


def test_epochs_and_accumulated_batches_count_as_steps_too(fit):
    # The last thing shown is a validation of 6 images, after the last of 4 steps.
    seen, _ = fit(terminal=False, every=0.0, max_epochs=2, accumulate_grad_batches=2)
    assert seen[:2] == (6, 6)
    assert "step 4 of 4, " in fit(terminal=False, every=0.0, max_epochs=2, accumulate_grad_batches=2)[1]


def test_in_a_file_there_is_a_line_now_and_then(fit):
    _, out = fit(terminal=False, every=0.0, max_steps=4, val_check_interval=2)
    lines = out.splitlines()
    step = r"step {} of 4, loss \d\.\d{{3}}, learning rate \d.*, \d+:\d\d left"
    found = [line for line in lines if "learning rate" in line]
    assert len(found) == 4
    for number, line in enumerate(found, 1):
        assert re.fullmatch(step.format(number), line), line
    validations = [line for line in lines if "validation" in line]
    # An epoch has 3 batches: of these, and not of those of the whole training, every second one is followed by one.
    assert [re.sub(r"\d+\.\d", "X", line) for line in validations] == ["step 2: mIoU X on the validation split"]
    assert lines.count("no pixel of the validated images has the label 'never'; 255 is ignored") == 1
    assert len(lines) == 6
    assert "\x1b" not in out
    seconds = [line for line in fit(terminal=False, max_steps=4)[1].splitlines() if "learning rate" in line]
    assert seconds == []  # ten seconds have not passed
    assert fit(terminal=False, every=None, max_steps=4)[1] == ""


def test_a_terminal_gets_a_bar_and_no_lines(fit):
    out = fit(every=0.0, max_steps=2)[1]
    assert "learning rate" not in out
    assert "\x1b" in out


def test_the_time_that_is_left():
    assert [_clock(value) for value in (0, 59.6, 61, 3723, float("inf"))] == ["0:00", "1:00", "1:01", "1:02:03", "?"]
