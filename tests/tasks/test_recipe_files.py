import pytest

from resfu.cli.recipe import with_bases


@pytest.fixture
def files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "top.yaml").write_text("base: [deep/a.yaml, deep/b.yaml]\nmodel: {host: x}\n")
    (tmp_path / "deep" / "a.yaml").write_text("base: [c.yaml]\n")
    (tmp_path / "deep" / "b.yaml").write_text("data: {}\n")
    (tmp_path / "deep" / "c.yaml").write_text("data: {}\n")
    (tmp_path / "circle.yaml").write_text("base: [circle.yaml]\n")
    (tmp_path / "plain.yaml").write_text("model: {host: x}\n")
    (tmp_path / "broken.yaml").write_text("model: [")
    (tmp_path / "bytes.yaml").write_bytes(b"\x89PNG\xff")
    (tmp_path / "on-bytes.yaml").write_text("base: [bytes.yaml]\n")
    return tmp_path


@pytest.mark.parametrize("form", [["--config", "{}"], ["-c", "{}"], ["--config={}"]])
def test_bases_come_first_and_deepest_first(files, form):
    words = [part.format(files / "top.yaml") for part in form]
    found = with_bases(["--run", "x", *words, "--seed_everything", "1"])
    expected = []
    for name in ("deep/c.yaml", "deep/a.yaml", "deep/b.yaml", "top.yaml"):
        expected += ["--config", str(files / name)]
    assert found == ["--run", "x", *expected, "--seed_everything", "1"]


def test_words_without_bases_stay(files):
    words = ["--config", str(files / "plain.yaml"), "--config", str(files / "absent.yaml"), "--config"]
    assert with_bases(words) == words


def test_circles_are_refused(files):
    with pytest.raises(ValueError, match=r"circle\.yaml builds on itself"):
        with_bases(["--config", str(files / "circle.yaml")])


@pytest.mark.parametrize("name", ["broken", "bytes", "on-bytes"])
def test_a_file_that_is_no_yaml_is_named(files, name):
    with pytest.raises(ValueError, match=rf"{name.removeprefix('on-')}\.yaml is not a YAML file: "):
        with_bases(["--config", str(files / f"{name}.yaml")])
