"""`resfu completion`."""

import shutil
import subprocess

import pytest

from resfu.cli import COMMANDS, main

ASK = """
{script}
COMP_WORDS=({words})
COMP_CWORD={place}
_resfu
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def bash_script():
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(["completion", "bash"]) == 0
    return text.getvalue()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("resfu co", {"compare", "cost", "completion"}),
        ("resfu compare --ups", {"--upsamplers"}),
        ("resfu fit --rec", {"--recipe"}),
        ("resfu bench --chan", {"--channels", "--channels-last"}),
        ("resfu fit runs", set()),
    ],
)
def test_bash(words, expected, bash_script):
    text = ASK.format(script=bash_script, words=words, place=len(words.split()) - 1)
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == expected


def test_zsh_and_fish(capsys):
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out.startswith("#compdef resfu\n")
    assert main(["completion", "fish"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" -a " in line for line in lines) == len(COMMANDS)
    assert "complete -c resfu -n '__fish_seen_subcommand_from fit' -l recipe" in lines
