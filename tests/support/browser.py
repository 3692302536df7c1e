"""Pages in a headless Chromium: what their scripts leave in the attributes of <html>."""

import shutil
import subprocess
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic"]
_FLAGS += ["--no-first-run", "--disable-sync", "--disable-background-networking", "--disable-component-update"]

# Leaves what axe-core finds, rule by rule, in data-axe.
_AXE = """
addEventListener("load", async () => {
  const rules = { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"] };
  const found = await axe.run(document, rules);
  document.documentElement.dataset.axe = found.violations
    .map((rule) => `${rule.id}: ${rule.nodes.map((node) => node.html.slice(0, 120)).join(" | ")}`).join("; ");
});
"""


class _Root(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found = {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "html":
            self.found = dict(attrs)


def opened(address, folder, milliseconds=5000, dark=False):
    """The attributes of <html> after the page has run for a while.

    Args:
        address: of the page.
        folder: for the browser's own files.
        milliseconds: of the page's clock.
        dark: as one who prefers dark pages.
    """
    if _CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    flags = [*_FLAGS, f"--user-data-dir={folder}", f"--virtual-time-budget={milliseconds}", "--dump-dom"]
    flags += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([_CHROMIUM, *flags, address], capture_output=True, text=True, timeout=120, check=True)
    return _Root(done.stdout).found


def with_axe(page):
    """A page that checks itself for accessibility, by axe-core."""
    package = find_spec("axe_core_python")
    if package is None:
        pytest.skip("needs the package axe-core-python, of the group dev")
    axe = (Path(package.origin).parent / "axe.min.js").read_text("utf-8")
    return page.replace("</body>", f"<script>{axe}</script><script>{_AXE}</script></body>")
