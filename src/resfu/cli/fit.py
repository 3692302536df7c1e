"""`resfu fit`, `validate`, `test` and `predict`."""

import sys
from collections.abc import Callable
from pathlib import Path

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from resfu.cli.configuration import Configuration
from resfu.cli.run_folder import run_folder
from resfu.evaluation.cost.host import inference_parameters
from resfu.files.atomic import write_json
from resfu.training.interruption import interruptible
from resfu.training.last_checkpoint import read_progress
from resfu.training.quiet import known_warnings_ignored


def fit(words: list[str]) -> int:
    """Train; with `--ckpt_path` go on with an interrupted training."""
    return _guarded("fit", words, _fit)


def validate(words: list[str]) -> int:
    """Measure a checkpoint on the validation split."""
    return _guarded("validate", words, _validate)


def test(words: list[str]) -> int:
    """Measure a checkpoint on the test split and print the classes."""
    return _guarded("test", words, _test)


def predict(words: list[str]) -> int:
    """Write the label maps of image files or scans, or the objects found in image files."""
    return _guarded("predict", words, _predict)


def _guarded(command: str, words: list[str], action: Callable[[Configuration], None]) -> int:
    try:
        with known_warnings_ignored():
            configuration = Configuration(command, words)
            with interruptible():
                action(configuration)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except ModuleNotFoundError as error:
        if error.name is not None:
            raise
        raise ValueError(str(error)) from error  # Lightning's own, for an accelerator that is not there
    except RuntimeError as error:
        if "loading state_dict" not in str(error):
            raise
        raise ValueError(f"the checkpoint does not fit the network: {error}") from error
    except ValueError as error:
        # A worker process sends its whole traceback; the user's part is its last line.
        message = str(error).strip().splitlines()
        if message and message[0].startswith("Caught "):
            raise ValueError(message[-1].partition(": ")[2]) from error
        raise
    return 0


def _fit(configuration: Configuration) -> None:
    run = configuration.run_folder
    trainer = configuration.trainer
    # Read now: a training that goes on overwrites it.
    before = None if configuration.checkpoint is None else read_progress(configuration.checkpoint)[0]
    with run_folder(run, trainer, before or 0):
        if (run / "checkpoints" / "last.ckpt").exists() and configuration.checkpoint is None:
            raise ValueError(
                f"{run} holds a run already: go on with it by --ckpt_path last, or choose another folder by --run."
            )
        trainer.fit(configuration.model, datamodule=configuration.datamodule, ckpt_path=_checkpoint(configuration))
    if trainer.global_step == before and trainer.is_global_zero:
        print(f"nothing to do: {configuration.checkpoint} is at the last step ({before}); max_steps prolongs a run")


def _validate(configuration: Configuration) -> None:
    _needs_checkpoint(configuration)
    configuration.trainer.validate(configuration.model, configuration.datamodule, ckpt_path=_checkpoint(configuration))
    _write_metrics(configuration)


def _test(configuration: Configuration) -> None:
    _needs_checkpoint(configuration)
    configuration.trainer.test(configuration.model, configuration.datamodule, ckpt_path=_checkpoint(configuration))
    _write_metrics(configuration)


def _predict(configuration: Configuration) -> None:
    _needs_checkpoint(configuration)
    output = configuration.config.output
    bar = configuration.config.trainer.enable_progress_bar is not False
    writer = configuration.kind.writer(output, configuration.datamodule, bar)
    trainer = configuration.trainer
    trainer.callbacks.append(writer)  # pyright: ignore[reportAttributeAccessIssue]
    trainer.predict(
        configuration.model,
        datamodule=configuration.datamodule,
        return_predictions=False,
        ckpt_path=_checkpoint(configuration),
    )
    for problem in writer.skipped:
        print(f"resfu: skipped: {problem}", file=sys.stderr)
    print(f"{configuration.kind.written(configuration.datamodule)} in {writer.folder}: {len(writer.written)}")


def _write_metrics(configuration: Configuration) -> None:
    file = configuration.config.metrics
    if file is not None and configuration.trainer.is_global_zero:
        model = configuration.model
        write_json(
            Path(file), {"parameters": inference_parameters(model.host), **configuration.kind.plain(model.results)}
        )


def _needs_checkpoint(configuration: Configuration) -> None:
    if configuration.checkpoint is None:
        raise ValueError(f"`resfu {configuration.command}` needs --ckpt_path: a file, or 'last' or 'best' of --run.")


def _checkpoint(configuration: Configuration) -> str | None:
    return None if configuration.checkpoint is None else str(configuration.checkpoint)
