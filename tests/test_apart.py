"""Scripts in processes of their own: what they print, what they lack, and how they fail."""

import pytest

from tests.support import apart


def test_what_it_prints_and_takes():
    script = "import sys, resfu.ops.layout as x; print(*sys.argv[1:], hasattr(x.pad, '__wrapped__'), __name__)"
    assert apart.run(script, "a", "b c") == "a b c False __main__\n"
    assert apart.run("import sys; print(len(sys.argv))") == "1\n"  # the last one left nothing behind


def test_how_it_fails():
    with pytest.raises(AssertionError, match=r"(?s)exit 1.*before.*ZeroDivisionError"):
        apart.run("print('before'); 1 / 0")
    with pytest.raises(AssertionError, match="exit -9"):
        apart.run("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(AssertionError, match=r"(?s)exit 1.*UserWarning: odd"):
        apart.run("import warnings; warnings.warn('odd')", warnings="error")
    assert apart.run("import warnings; warnings.warn('odd')") == ""
    assert apart.run("import sys; sys.exit(2)", check=False) == ""
