"""What tests of the commands share."""

import pytest
import yaml

from resfu.cli import main
from tests.support.timing import timed_once

__all__ = ["timed_once"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a tiny configuration, and a run of two steps in run/."""
    folder = tmp_path_factory.mktemp("fit")
    content = {
        "model": {"host": "segformer-mit-b0", "upsampler": "bilinear", "schedule": {"total_steps": 10}},
        "data": {
            "dataset": "scenes",
            "root": str(folder / "cache"),
            "options": {"size": [32, 32]},
            "train_options": {"count": 5},
            "eval_options": {"count": 2},
            "crop_size": [32, 32],
            "on_error": "skip",
        },
        "trainer": {
            "accelerator": "cpu",
            "max_steps": 2,
            "val_check_interval": 2,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
        },
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(content))
    assert main(["fit", "--config", str(folder / "tiny.yaml"), "--run", str(folder / "run")]) == 0
    return folder
