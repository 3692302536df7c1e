"""The report for everyone: keyboard, screen reader, contrast, light and dark; checked by axe-core in a browser."""

import numpy as np
import pytest

from resfu.compare.report import render_report
from resfu.tasks.pictures import VolumePictures
from tests.support.browser import opened, with_axe


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing(dark, results, pictures, tmp_path):
    slices = np.zeros((3, 6, 4, 3), np.uint8)
    volume = VolumePictures("case", [2, 7, 12], {name: list(slices) for name in ("image", "bilinear", "resfu")})
    page = tmp_path / "report.html"
    page.write_text(with_axe(render_report(results, pictures, [volume])), "utf-8")
    assert opened(page.as_uri(), tmp_path / "user", dark=dark).get("data-axe") == ""


def test_axe_would_find_something(results, pictures, tmp_path):
    page = tmp_path / "report.html"
    broken = render_report(results, pictures).replace('<html lang="en"', "<html")
    page.write_text(with_axe(broken), "utf-8")
    assert "html-has-lang" in opened(page.as_uri(), tmp_path / "user")["data-axe"]
