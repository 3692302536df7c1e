"""Imports inside `resfu.ops`: a reference shares no code with what it checks, and no function hides a package."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import resfu.ops

ROOT = Path(resfu.ops.__file__).parent
FAMILIES = ("filters", "reassembly", "similarity")


def imported(file: Path) -> set[str]:
    """The modules that a file imports anywhere, and what it takes from them: "a.b" and "a.b.c"."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            found |= {str(node.module), *(f"{node.module}.{name.name}" for name in node.names)}
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_the_same_five_files(family):
    files = {file.name for file in (ROOT / family).glob("*.py")}
    assert {"api.py", "reference.py", "cpu.py", "triton.py", "operators.py"} <= files


@pytest.mark.parametrize("family", FAMILIES)
def test_a_reference_imports_torch_and_shapes_alone(family):
    assert {name.split(".")[0] for name in imported(ROOT / family / "reference.py")} <= {"torch", "jaxtyping"}


def test_only_the_choice_of_a_backend_imports_a_reference():
    users = {
        str(file.relative_to(ROOT))
        for file in ROOT.rglob("*.py")
        if any(name.endswith(".reference") or ".reference." in name for name in imported(file))
    }
    assert users == {f"{family}/api.py" for family in FAMILIES}


def test_no_function_hides_its_package():
    for family in FAMILIES:
        assert getattr(resfu.ops, family) is import_module(f"resfu.ops.{family}")

    import resfu.ops.reassembly.api as a

    assert a.reassemble is resfu.ops.reassemble
