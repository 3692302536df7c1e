"""`resfu completion`: a script that teaches a shell the commands and their options."""

import contextlib
import io
import re
from collections.abc import Sequence

from resfu.cli.arguments import Parser

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-zA-Z_-]*")

_BASH = """\
_resfu() {{
  local current="${{COMP_WORDS[COMP_CWORD]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    words="{commands}"
  elif [ "${{current#-}}" != "$current" ]; then
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  [ -n "$words" ] && COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _resfu resfu
"""
_ZSH = "#compdef resfu\nautoload -Uz bashcompinit && bashcompinit\n"


def run(argv: Sequence[str]) -> int:
    """Print the script."""
    parser = Parser(
        prog="resfu completion",
        description="Print a script for your shell. bash: resfu completion bash > "
        "~/.local/share/bash-completion/completions/resfu; zsh: resfu completion zsh > a folder of $fpath, as _resfu; "
        "fish: resfu completion fish > ~/.config/fish/completions/resfu.fish",
    )
    parser.add_argument("shell", choices=["bash", "zsh", "fish"])
    shell = parser.parse_args(argv).shell
    print(_fish() if shell == "fish" else (_ZSH if shell == "zsh" else "") + _bash(), end="")
    return 0


def options_of(command: str) -> list[str]:
    """The options in a command's help text; only --help if the command's packages are not installed."""
    from resfu.cli import main

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        main([command, "--help"])
    return list(dict.fromkeys([*_OPTION.findall(text.getvalue()), "--help"]))


def _commands() -> dict[str, str]:
    from resfu.cli import COMMANDS

    return {name: command.summary for name, command in COMMANDS.items()}


def _bash() -> str:
    cases = "\n".join(f'      {name}) words="{" ".join(options_of(name))}" ;;' for name in _commands())
    return _BASH.format(commands=" ".join(_commands()), cases=cases)


def _fish() -> str:
    lines = ["complete -c resfu -f -n __fish_use_subcommand -l help"]
    for name, summary in _commands().items():
        words = summary.replace("'", "")
        lines.append(f"complete -c resfu -f -n __fish_use_subcommand -a {name} -d '{words}'")
        lines += [
            f"complete -c resfu -n '__fish_seen_subcommand_from {name}' -l {option.removeprefix('--')}"
            for option in options_of(name)
        ]
    return "\n".join(lines) + "\n"
