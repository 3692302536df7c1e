"""Every public function and class has an example, and the examples run."""

import doctest
import inspect

import pytest
import torch

import resfu

OBJECTS = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (resfu, resfu.ops)
    for name in module.__all__
    if inspect.isroutine(getattr(module, name)) or inspect.isclass(getattr(module, name))
}


@pytest.mark.parametrize("name", OBJECTS)
def test_the_example_runs(name, tmp_path, monkeypatch):
    if name in ("resfu.create_host", "resfu.load"):
        pytest.importorskip("transformers", reason="needs the extra hosts")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    parser = doctest.DocTestParser()
    names = {"torch": torch, "resfu": resfu}
    example = parser.get_doctest(inspect.getdoc(OBJECTS[name]) or "", names, name, None, 0)
    assert example.examples
    said = []
    results = doctest.DocTestRunner().run(example, out=said.append)
    assert results.failed == 0, "".join(said)
