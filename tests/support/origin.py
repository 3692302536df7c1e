"""The process whose copies run scripts, see `apart.py`: a job is a line of JSON, and its exit status a line as well.

It only imports. A process that has computed has threads, and one that has looked for a GPU is marked: neither may be
copied. (Importing transformers looks, by way of torchao.)
"""

import gc
import importlib
import json
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from types import ModuleType

MODULES = (
    "resfu.cli",
    "resfu.compare.run",
    "resfu.deploy.export",
    "resfu.hosts.panoptic_fpn",
    "resfu.hosts.pspnet",
    "resfu.hosts.transunet",
    "resfu.tasks.run",
    "torch._dynamo.backends.debugging",
    "torch._inductor.compile_fx",
    "torch.export",
)
LIMIT = 600  # seconds for a script


def become(job: dict) -> None:
    """Run the script of a job in this copy, which ends with it."""
    signal.alarm(LIMIT)
    status = 1
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in enumerate(("stdout", "stderr"), start=1):
        os.dup2(os.open(Path(job["folder"], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    script = sys.modules["__main__"] = ModuleType("__main__")
    try:
        sys.argv = [job["name"], *job["arguments"]]
        warnings.resetwarnings()
        warnings.simplefilter(job["warnings"])
        exec(compile(job["code"], job["name"], "exec"), script.__dict__)
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """Import, then serve until the input ends."""
    sys.path.insert(0, os.getcwd())
    for name in MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        copy = os.fork()
        if not copy:
            become(json.loads(line))
        _, status = os.waitpid(copy, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main()
