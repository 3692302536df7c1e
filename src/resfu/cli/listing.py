"""`resfu list`: what can be built by name."""

import argparse
import inspect

from rich.console import Console
from rich.table import Table

from resfu import HOSTS, UPSAMPLERS


def run(words: list[str]) -> int:
    """Print the upsamplers and the hosts; needs no extra of the package."""
    parser = argparse.ArgumentParser(prog="resfu list", description="List the upsamplers and the hosts.")
    parser.parse_args(words)
    upsamplers = Table("upsampler", "guided", "what it does", title="resfu.create_upsampler(name, ...)")
    for name, method in UPSAMPLERS.items():
        upsamplers.add_row(name, "yes" if method.guided else "no", _summary(method))
    hosts = Table("host", title="resfu.create_host(name, ...)")
    for name in HOSTS:
        hosts.add_row(name)
    console = Console()
    console.print(upsamplers, hosts)
    return 0


def _summary(method: type) -> str:
    return (inspect.getdoc(method) or "").partition("\n")[0]
