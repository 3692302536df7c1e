"""Pages kept: fewer faults where glibc is, nothing elsewhere."""

import os
import subprocess
import sys

import pytest

from resfu import pages

PROBE = """
import resource, sys
from resfu.pages import keep_pages
kept = keep_pages() if sys.argv[1] == "keep" else False
block = bytearray(b"x") * (16 << 20)  # once, so that the pages are there
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    block = bytearray(b"x") * (16 << 20)
    del block
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "RESFU_KEEP_PAGES")


def probe(word: str, **environment: str) -> tuple[bool, int]:
    clean = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-c", PROBE, word]
    output = subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout.split()
    return output[0] == "True", int(output[1])


@pytest.mark.skipif(sys.platform != "linux" or not pages._is_glibc(), reason="glibc alone has these thresholds")
def test_kept_pages_cost_no_faults():
    kept, few = probe("keep")
    assert kept
    assert few < probe("leave")[1] / 4


def test_the_environment_has_the_last_word():
    assert not probe("keep", RESFU_KEEP_PAGES="0")[0]
    assert not probe("keep", MALLOC_MMAP_THRESHOLD_="131072")[0]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, system):
    monkeypatch.setattr(pages.ctypes, "CDLL", lambda *_: pytest.fail("it looked for mallopt"))
    monkeypatch.setattr(pages.sys, "platform", system)
    assert not pages.keep_pages()


def test_other_c_libraries_are_left_alone(monkeypatch):
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pages.os, "confstr", unknown)
    monkeypatch.setattr(pages.ctypes, "CDLL", lambda *_: pytest.fail("it looked for mallopt"))
    assert not pages.keep_pages()
