"""The command `resfu`: finds the sub-command, imports only what that one needs and turns user errors into one line."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resfu.cli.memory import advice, is_out_of_memory


@dataclass(frozen=True)
class Command:
    """A sub-command: the function `module:function` taking the remaining words and returning the exit code."""

    module: str
    function: str
    extra: str | None  # the extra of the package that its imports come from
    summary: str


COMMANDS: dict[str, Command] = {
    "fit": Command("resfu.cli.fit", "run", "train", "train a network with an upsampler from a recipe"),
    "validate": Command("resfu.cli.apply", "validate", "train", "measure a checkpoint on the validation split"),
    "test": Command("resfu.cli.apply", "test", "train", "measure a checkpoint on the test split, class by class"),
    "predict": Command("resfu.cli.apply", "predict", "train", "write label maps of images, label volumes of scans"),
    "compare": Command("resfu.cli.compare", "run", "all", "train one network per upsampler and report side by side"),
    "reproduce": Command("resfu.cli.reproduce", "run", "all", "train the published tables' rows; show both numbers"),
    "upsample": Command("resfu.cli.upsample", "run", "all", "show the features of a photo before and after upsampling"),
    "figure": Command("resfu.cli.figure", "run", "all", "make the figures of the paper for an image and a network"),
    "prepare": Command("resfu.cli.prepare", "run", "medical", "bring raw medical scans into the training format"),
    "bench": Command("resfu.cli.bench", "run", None, "time upsamplers side by side at chosen sizes"),
    "cost": Command("resfu.cli.cost", "run", "hosts", "count parameters and operations, without running anything"),
    "export": Command("resfu.cli.export", "run", "deploy", "write a file for ONNX Runtime, OpenVINO, ExecuTorch, C++"),
    "list": Command("resfu.cli.listing", "run", None, "list upsamplers, networks, recipes and settings"),
}

_GROUPS = {
    "train and apply a network": ("fit", "validate", "test", "predict", "export"),
    "train several and compare": ("compare", "reproduce"),
    "look, time and count": ("figure", "bench", "cost", "list"),
    "prepare data": ("prepare",),
    "old names": ("upsample",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `resfu` and return its exit code.

    A user error (ValueError, OSError, a package of an extra that is not installed), or too little memory, is one line
    on stderr and code 2.
    Set RESFU_DEBUG=1 to see the traceback instead.

    Args:
        argv: the words after `resfu`; default: those of the process.

    Returns:
        0 when all went well, 2 after such an error, 130 after an interrupt.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from resfu import __version__

        print(f"resfu {__version__}")
        return 0
    if words[0] not in COMMANDS:
        close = difflib.get_close_matches(words[0], COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return _fail(f"unknown command {words[0]!r}; choose one of {', '.join(COMMANDS)}.{hint}")
    return _call(words[0], words[1:])


def _call(word: str, rest: list[str]) -> int:
    command = COMMANDS[word]
    try:
        run: Callable[[list[str]], int] = getattr(importlib.import_module(command.module), command.function)
        return run(rest)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if os.environ.get("RESFU_DEBUG") or command.extra is None or package in ("", "resfu"):
            raise
        return _fail(f'`resfu {word}` needs {package}, which is not installed: pip install "resfu[{command.extra}]"')
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        short = is_out_of_memory(error)
        if os.environ.get("RESFU_DEBUG") or not (short or isinstance(error, ValueError | OSError)):
            raise
        if short:
            return _fail(advice(word))
        return _fail(" ".join(str(error).split()) or type(error).__name__)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:  # argparse leaves this way
        if isinstance(stop.code, str):
            return _fail(stop.code)
        return stop.code or 0


def _fail(message: str) -> int:
    print(f"resfu: {message}", file=sys.stderr)
    return 2


def _usage() -> str:
    width = max(len(name) for name in COMMANDS)
    lines = []
    for title, names in _GROUPS.items():
        lines += ["", f"{title}:", *(f"  {name:<{width}}  {COMMANDS[name].summary}" for name in names)]
    return "\n".join(
        [
            "usage: resfu [-h] [--version] COMMAND ...",
            "",
            "Feature upsampling for PyTorch: train, measure and compare upsamplers in segmentation networks.",
            *lines,
            "",
            "`resfu COMMAND --help` explains a command.",
        ]
    )
