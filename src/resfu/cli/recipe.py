"""Recipes that build on other recipes, so that a setting is written down once."""

from pathlib import Path

import yaml


def with_bases(words: list[str]) -> list[str]:
    """Put the files that a configuration names under `base` in front of it.

    Args:
        words: options, with `--config FILE` (or `-c`, or `--config=FILE`) anywhere among them. `base` in such a file is
            a list of files, relative to it; they may have bases themselves. What is read later goes before.

    Returns:
        The words with a `--config` for every file.

    Raises:
        ValueError: for a file that is no configuration, a `base` that is not a list of files, or files that build on
            one another in a circle.
        FileNotFoundError: for a base that is not there.
    """
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        file = value if equals else next(rest, None) if option in ("-c", "--config") else None
        if option not in ("-c", "--config") or file is None:
            result.append(word)
            continue
        for path in [*_bases(Path(file), ()), file]:
            result += ["--config", str(path)]
    return result


def _bases(file: Path, above: tuple[Path, ...]) -> list[Path]:
    if file.resolve() in above:
        raise ValueError(f"{file} builds on itself: take it out of the `base` of {above[-1]}.")
    if not file.is_file():
        return []  # the parser, which reads it next, says so
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} is not a YAML file: {error}.") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"a {type(content).__name__}"
        raise ValueError(f"{file} holds {found}; expected the settings of a training by their names, as in a recipe.")
    names = content.get("base")
    if names is None:
        return []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`base` in {file} must be a list of files, got {names!r}.")
    bases: list[Path] = []
    for name in names:
        path = file.parent / name
        if not path.is_file():
            raise FileNotFoundError(f"{file} builds on {path}, which is not there.")
        bases += [*_bases(path, (*above, file.resolve())), path]
    return bases
