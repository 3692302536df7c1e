"""Warnings of other packages that are of no use to users of this package."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# (text of the warning, reason why it does not matter here)
_KNOWN = (
    (r".*isinstance\(treespec, LeafSpec\)", "Lightning calls what this PyTorch calls deprecated"),
    (
        r"\s*(By default only one Jsonargparse|``instantiate_classes`` was|skip_none parameter was)",
        "Lightning calls what jsonargparse deprecated",
    ),
    (r".*does not have many workers", "num_workers is an argument with a documented default"),
    (r".*is smaller than the logging interval", "the interval counts the steps of a training, not those of an epoch"),
    (r".*module\(s\) in eval mode at the start of training", "freeze_encoder asks for it"),
    (r".*Checkpoint directory .* exists and is not empty", "a resumed run goes on in its folder"),
    (r"Grad strides do not match bucket view strides", "for a 1 x 1 convolution both orders are the same memory"),
    (r"Detected call of `lr_scheduler.step\(\)` before", "a gradient scaler (16-mixed) may leave out the first step"),
    (r".*ModelCheckpoint\(monitor=.*could not find the monitored key", "there was no validation, which `fit` says"),
    (r"Be aware that when using `ckpt_path`", "measuring needs no callbacks of the training"),
)


@contextmanager
def known_warnings_ignored() -> Iterator[None]:
    """A context without warnings of Lightning that are known not to matter; other warnings are still shown."""
    # Messages below the level of a warning are notes on hardware and tips.
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message, _ in _KNOWN:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
