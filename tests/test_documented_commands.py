"""Every `resfu ...` in the documents is a command that today's parsers take."""

import argparse
import itertools
import re
import shlex
from pathlib import Path

import pytest

from resfu.cli import COMMANDS, main
from resfu.compare.variants import parse_variant
from resfu.hosts import HOSTS
from resfu.recipes import recipe_names

pytest.importorskip("matplotlib", reason="needs the extra all")

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINE = re.compile(r"^(?:    )?(?:\S*bin/)?(resfu (?:.*\\\n)*.*)$", re.MULTILINE)
INLINE = re.compile(r"`(resfu [a-z]+ [^`]*--[^`]*)`")


def commands():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        found = [match for pattern in (LINE, INLINE) for match in pattern.finditer(text)]
        for match in sorted(found, key=lambda match: match.start()):
            words = shlex.split(match[1].replace("\\\n", " "), comments=True)[1:]
            if words and words[0].strip("-") in (*COMMANDS, "help"):  # sentences begin with the name too
                line = text.count("\n", 0, match.start()) + 1
                yield pytest.param(words, id=f"{document.name}:{line}")


class ParsedError(Exception):
    """The command's own parser took its arguments."""


@pytest.mark.parametrize("words", list(commands()))
def test_the_parser_takes_it(words, monkeypatch, capsys):
    real = argparse.ArgumentParser.parse_args

    def parse_args(self, *args, **kwargs):
        real(self, *args, **kwargs)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    if "--help" in words:
        assert main(words) == 0
        return
    with pytest.raises(ParsedError):
        raise SystemExit(f"exit code {main(words)}: {capsys.readouterr().err}")
    assert capsys.readouterr().err == ""  # no old names
    options = dict(itertools.pairwise(words))
    recipe = options.get("--recipe", "scenes")
    assert recipe in recipe_names() or recipe.endswith(".yaml")
    assert options.get("--host", "pspnet-resnet50") in HOSTS or words[0] not in ("fit", "compare", "figure")
    parse_variant(options.get("--upsampler", "resfu"))


def test_there_are_commands_in_the_documents():
    names = [param.values[0][0] for param in commands()]
    assert len(names) > 50
    assert {"fit", "test", "predict", "compare", "reproduce", "figure", "prepare", "cost"} <= set(names)
