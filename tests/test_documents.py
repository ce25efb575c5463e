"""The documents keep what they promise."""

import ast
import doctest
import importlib
import pathlib
import re

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest

import keras_lrfinder

ROOT = pathlib.Path(__file__).parent.parent
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md")
    for path in ROOT.glob(pattern)
)
PACKAGE = ROOT / "keras_lrfinder"
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for pattern in ("*.py", "drawing/*.py", "analysis/*.py")
    for path in sorted(PACKAGE.glob(pattern))
    if ">>>" in path.read_text(encoding="utf-8")
]


def blocks(document, language):
    """Returns the fenced blocks of a Markdown file."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.S | re.M)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_are_right(name):
    """What the docstrings of the pure rooms show is what comes out."""
    module = importlib.import_module(f"keras_lrfinder.{name}")

    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)

    assert result.failed == 0


def setting():
    """Names that every page of the guide may use."""
    x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    names = {"keras": keras, "lr_find": keras_lrfinder.lr_find}
    return {**names, "model": model, "x": x, "y": x.sum(1, keepdims=True)}


def test_readme_runs(tmp_path, monkeypatch, capsys):
    """All Python of the README runs, from the first line to the last."""
    monkeypatch.chdir(tmp_path)
    first, *others = blocks("README.md", "python")
    names = setting()
    exec(first, {**names, "x_train": names["x"], "y_train": names["y"]})
    assert "lr" in capsys.readouterr().out
    names = {}

    for block in others:
        exec(block, names)

    assert names["finder"].suggestion.lr > 0
    assert (tmp_path / "plots" / "smooth_loss.jpg").exists()
    assert (tmp_path / "curve.json").exists()
    plt.close("all")


GUIDE = [d for d in DOCUMENTS if d.startswith("docs/guide/")]


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "python")])
def test_guide_runs(page, tmp_path, monkeypatch):
    """All Python of a page runs, from its first line to its last."""
    monkeypatch.chdir(tmp_path)
    if "tensorboard" in page or "trackers" in page:
        pytest.importorskip("tensorboardX")
    names = setting()
    for block in blocks(page, "python"):
        exec(block, names)
    plt.close("all")


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "py")])
def test_guide_that_does_not_run_is_python(page):
    """What needs packages that are not here has the right syntax."""
    for block in blocks(page, "py"):
        ast.parse(block)


def test_guide_is_in_the_navigation():
    """No page is left that nobody finds."""
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [p for p in GUIDE if p.removeprefix("docs/") not in navigation]
    assert missing == []


def test_readme_is_two_screens():
    """What is longer belongs on the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140


def test_first_screen_has_six_lines_of_code():
    """The README's first code block is six lines."""
    lines = blocks("README.md", "python")[0].splitlines()

    assert len(lines) == 6


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    """Every relative link and picture of a document exists."""
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    here = (ROOT / document).parent

    missing = [
        target
        for target in targets
        if not re.match(r"https?:|#", target)
        and not (here / target.partition("#")[0]).exists()
    ]
    assert missing == []


def test_readme_links_to_headings_that_exist():
    """Links within the README lead to one of its headings."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", text, re.M)
    }

    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_rule_in_ten_lines_works():
    """The rule that CONTRIBUTING adds halves the fall of a known curve."""
    names = {}
    rules = importlib.import_module("keras_lrfinder").RULES
    before = dict(rules)
    try:
        for block in blocks("CONTRIBUTING.md", "python"):
            exec(block, names)
        lrs = np.geomspace(1e-4, 1.0, 41)
        losses = 1 - np.clip(np.log10(lrs) + 3, 0, 2) / 2
        curve = names["Curve"](lrs=lrs, losses=losses, smoothed=losses)

        found = names["halfway"](curve)

        # The fall is from 1e-3 to 1e-1, its middle at 1e-2.
        assert found == pytest.approx(1e-2, rel=1e-6)
        assert names["suggest"](curve, "halfway").rule == "halfway"
    finally:
        rules.clear()
        rules.update(before)


def test_example_and_tests_are_one_command_each():
    """A fresh clone needs one line to run the example, one for the tests."""
    commands = "".join(blocks("README.md", "sh")).splitlines()

    assert [line.split()[-1] for line in commands] == [
        "examples/mnist.py",
        "pytest",
    ]
    assert all(line.startswith("python3 -m venv .venv &&") for line in commands)


def test_changelog_has_this_version():
    """The version of the package has its entry."""
    from keras_lrfinder import __version__

    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{__version__}]" in text


def test_reference_has_every_public_name():
    """The API pages name everything that the package exports."""
    import keras_lrfinder

    pages = "".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "docs" / "api").glob("*.md")
    )
    missing = [
        name
        for name in keras_lrfinder.__all__
        if not re.search(rf"\b{name}\b", pages)
    ]
    assert missing == []
