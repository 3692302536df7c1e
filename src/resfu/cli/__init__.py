"""The command `resfu`: finds the sub-command, imports only what that one needs and turns user errors into one line."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resfu.cli.memory import advice, is_out_of_memory
from resfu.pages import keep_pages


@dataclass(frozen=True)
class Command:
    """A sub-command: the function `module:function` taking the remaining arguments and returning the exit code."""

    module: str
    function: str
    extra: str | None  # the extra of the package that its imports come from
    summary: str


COMMANDS: dict[str, Command] = {
    "fit": Command("resfu.cli.fit", "run", "train", "train a network with an upsampler from a recipe"),
    "validate": Command("resfu.cli.apply", "validate", "train", "measure a checkpoint on the validation split"),
    "test": Command("resfu.cli.apply", "test", "train", "measure a checkpoint on the test split, class by class"),
    "predict": Command("resfu.cli.apply", "predict", "train", "write label maps of images, label volumes of scans"),
    "refine": Command("resfu.cli.refine", "run", "all", "bring a small mask to its image's size, along its edges"),
    "compare": Command("resfu.cli.compare", "run", "all", "train one network per upsampler and report side by side"),
    "distill": Command("resfu.cli.distill", "run", "all", "fit an upsampler to a frozen encoder, without labels"),
    "probe": Command(
        "resfu.cli.probe", "run", "all", "measure pixel features: linear probe and fidelity, side by side"
    ),
    "reproduce": Command("resfu.cli.reproduce", "run", "all", "train the published tables' rows; show both numbers"),
    "figure": Command("resfu.cli.figure", "run", "all", "show features, kernels and the paper's figures for photos"),
    "upsample": Command("resfu.cli.old_names", "upsample", "all", "the old name of `resfu figure features`"),
    "prepare": Command("resfu.cli.prepare", "run", "medical", "bring raw medical scans into the training format"),
    "bench": Command("resfu.cli.bench", "run", None, "time upsamplers side by side at chosen sizes"),
    "cost": Command("resfu.cli.cost", "run", "hosts", "count parameters and operations, without running anything"),
    "explore": Command("resfu.cli.explore", "run", "all", "open a page that shows what upsamplers do to a photo"),
    "doctor": Command("resfu.cli.doctor", "run", None, "show versions and backends, and check them"),
    "completion": Command("resfu.cli.completion", "run", None, "print a script that teaches your shell the options"),
    "inspect": Command(
        "resfu.cli.inspect", "run", "hosts", "show what any network upsamples, and what others would cost"
    ),
    "export": Command("resfu.cli.export", "run", "deploy", "write a file for ONNX Runtime, OpenVINO, ExecuTorch, C++"),
    "list": Command("resfu.cli.listing", "run", None, "list upsamplers, networks, recipes and settings"),
}

_GROUPS = {
    "train and apply a network": ("fit", "validate", "test", "predict", "refine", "export"),
    "features of frozen encoders": ("distill", "probe"),
    "train several and compare": ("compare", "reproduce"),
    "look, time and count": ("figure", "explore", "inspect", "bench", "cost", "list", "doctor", "completion"),
    "prepare data": ("prepare",),
    "old names": ("upsample",),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `resfu` and return its exit code.

    A user error (ValueError, OSError, a package of an extra that is not installed), or too little memory, is one line
    on stderr and code 2.
    Set RESFU_DEBUG=1 to see the traceback instead. A process that is this command keeps the memory it frees, see
    `resfu.pages`; RESFU_KEEP_PAGES=0 leaves that off.

    Args:
        argv: the arguments after `resfu`; default: those of the process.

    Returns:
        0 when all went well, 2 after such an error, 130 after an interrupt.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is not None:
        return _run(arguments)
    keep_pages()  # the process is ours
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`: what is still to be written goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from resfu import __version__

        print(f"resfu {__version__}")
        return 0
    if arguments[0] not in COMMANDS:
        close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        return _fail(f"unknown command {arguments[0]!r}; choose one of {', '.join(COMMANDS)}.{hint}")
    return _call(arguments[0], arguments[1:])


def _call(name: str, rest: list[str]) -> int:
    command = COMMANDS[name]
    try:
        run: Callable[[list[str]], int] = getattr(importlib.import_module(command.module), command.function)
        return run(rest)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if os.environ.get("RESFU_DEBUG") or command.extra is None or package in ("", "resfu"):
            raise
        return _fail(f'`resfu {name}` needs {package}, which is not installed: pip install "resfu[{command.extra}]"')
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        short = is_out_of_memory(error)
        if isinstance(error, BrokenPipeError):
            raise
        if os.environ.get("RESFU_DEBUG") or not (short or isinstance(error, ValueError | OSError)):
            raise
        if short:
            return _fail(advice(name))
        if isinstance(error, OSError) and error.filename and error.strerror and str(error).startswith("[Errno"):
            return _fail(f"{error.filename}: {error.strerror}")
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
