"""A recipe whose training is shortened by an option."""

import sys
from collections.abc import Sequence

from jsonargparse import Namespace
from lightning.pytorch.utilities import rank_zero_only


def shorten_warmup(config: Namespace, words: Sequence[str]) -> None:
    """Where an option ends a recipe within its warm-up, warm up for a tenth of the training, and say so.

    The options are `--trainer.max_steps` and `--trainer.fast_dev_run`.

    A warm-up that was asked for as well, or a length that stands in the same file, is left: that is refused later.

    Args:
        config: of `resfu fit`; `model.schedule.warmup_steps` is changed in it.
        words: that it was parsed from.
    """
    given = {word.partition("=")[0] for word in words}
    schedule, steps = config.model.schedule, config.trainer.max_steps
    if config.trainer.fast_dev_run:
        steps = int(config.trainer.fast_dev_run)
    shortened = given & {"--trainer.max_steps", "--trainer.fast_dev_run"}
    if not shortened or "--model.schedule.warmup_steps" in given:
        return
    if steps <= 0 or schedule.total_steps or schedule.warmup_steps < steps:
        return
    _tell(
        f"resfu: a warm-up of {schedule.warmup_steps} steps does not go into {steps}: {steps // 10} here "
        "(--model.schedule.warmup_steps sets another)"
    )
    schedule.warmup_steps = steps // 10


@rank_zero_only
def _tell(line: str) -> None:
    print(line, file=sys.stderr)
