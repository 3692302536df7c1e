"""The input files of a prediction, and the names of their results."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path


def find_files(
    places: Sequence[str | Path], suffixes: tuple[str, ...], kind: str, keep_suffix: bool = False
) -> dict[str, Path]:
    """List files of a kind.

    Args:
        places: files and folders. From a folder, all files with one of the suffixes are taken in order of their names,
            including those in subfolders, but without hidden files (such as the "._NAME" that macOS puts next to
            copies).
        suffixes: suffixes in lower case.
        kind: "image" or another word, for messages.
        keep_suffix: whether the names of results keep the suffix of the file.

    Returns:
        The files in order, by the name of their results, which is the path within the given folder. Files that differ
        only in their suffixes, such as a.jpg and a.png, keep them.

    Raises:
        FileNotFoundError: for places that do not exist.
        ValueError: for a folder without such files, no files at all, or files whose results would have the same name.
            The message names all problems.
    """
    found: list[tuple[Path, Path]] = []  # a file, and its path in the folder given
    absent: list[str] = []
    problems: list[str] = []
    for place in map(Path, places):
        if place.is_dir():
            inside = [(file, file.relative_to(place)) for file in sorted(place.rglob("*"))]
            inside = [(file, path) for file, path in inside if _is_wanted(file, path, suffixes)]
            found += inside
            if not inside:
                problems.append(f"the folder {place} holds no {kind} ({', '.join(suffixes)})")
        elif place.exists():
            found.append((place, Path(place.name)))
        else:
            absent.append(f"there is no {kind} or folder {place}")
    if not places:
        problems.append(f"no {kind}s to predict: give files or folders")
    paths = [path for _, path in found]
    stems = [path if keep_suffix else path.with_suffix("") for path in paths]
    alike = Counter(stems)
    names = [path if alike[stem] > 1 else stem for path, stem in zip(paths, stems, strict=True)]
    problems += [
        f"several {kind}s are called {name}: their results would overwrite one another, rename them"
        for name, count in Counter(names).items()
        if count > 1
    ]
    if absent and not problems:
        raise FileNotFoundError("; ".join(absent) + ".")
    if problems:
        raise ValueError("; ".join(absent + problems) + ".")
    return {name.as_posix(): file for name, (file, _) in zip(names, found, strict=True)}


def check_output(places: Sequence[str | Path], files: Mapping[str, Path], folder: Path, suffix: str) -> None:
    """Refuse to write results into the folders of the input files.

    Args:
        places: the given files and folders, see `find_files`.
        files: the files to predict, by the name of their results.
        folder: folder of the results.
        suffix: suffix of a result.

    Raises:
        ValueError: if a result would overwrite an input file, or would be among the input files the next time.
    """
    for name, file in files.items():
        if (folder / f"{name}{suffix}").resolve() == file.resolve():
            raise ValueError(f"the result of {file} would overwrite it: choose another --output.")
    for place in map(Path, places):
        if place.is_dir() and folder.resolve().is_relative_to(place.resolve()):
            raise ValueError(
                f"results in {folder} would be among the files of {place} the next time: choose an --output elsewhere."
            )


def _is_wanted(file: Path, path: Path, suffixes: tuple[str, ...]) -> bool:
    return (
        file.name.lower().endswith(suffixes)
        and not any(part.startswith(".") for part in path.parts)
        and not file.is_dir()
    )
