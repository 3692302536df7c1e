"""Scripts in processes of their own, where the package is as users have it: without the checks of pytest's hook.

Python takes three seconds of a CPU to import torch and seven for all that scripts need. So `origin.py` imports it once
for a worker of pytest, and every script runs in a copy of that process, made by `fork`, where the system has it.
"""

import atexit
import json
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_ORIGIN = Path(__file__).with_name("origin.py")


def run(script: str | Path, *arguments: str, warnings: str = "ignore", check: bool = True) -> str:
    """What a script prints. Its folder is the root of the repository.

    Args:
        script: the code, or the path of a file.
        *arguments: as on the command line.
        warnings: what becomes of them: "ignore", "default" or "error".
        check: it must end well. Without, what it writes as errors is the answer.
    """
    name, code = ("script", script) if isinstance(script, str) else (str(script), script.read_text("utf-8"))
    job = {"name": name, "code": code, "arguments": arguments, "warnings": warnings}
    status, printed, errors = (_copied if sys.platform == "linux" else _started)(job)
    assert status == 0 or not check, f"exit {status}\n{printed[-1000:]}\n{errors[-4000:]}"
    return printed if check else errors


def _copied(job: dict[str, Any]) -> tuple[int, str, str]:
    origin = _origin()
    assert origin.stdin is not None
    assert origin.stdout is not None
    with tempfile.TemporaryDirectory() as folder:
        origin.stdin.write(json.dumps(job | {"folder": folder}) + "\n")
        origin.stdin.flush()
        status = origin.stdout.readline()
        assert status, f"the process that scripts are copies of has ended: run {_ORIGIN} to see why"
        return int(status), *(Path(folder, name).read_text("utf-8") for name in ("stdout", "stderr"))


def _started(job: dict[str, Any]) -> tuple[int, str, str]:
    command = [sys.executable, "-W", job["warnings"], "-c", job["code"], *job["arguments"]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=_environment(), check=False)
    return done.returncode, done.stdout, done.stderr


@cache
def _origin() -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(_ORIGIN)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=_environment(),
    )
    atexit.register(process.communicate)  # ends its input, and so the process
    return process


@cache
def _environment() -> dict[str, str]:
    """No hub is asked for weights, and none are found."""
    folder = tempfile.TemporaryDirectory(prefix="empty-hub-")
    atexit.register(folder.cleanup)
    return os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": folder.name}
