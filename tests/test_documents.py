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
PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for pattern in ("*.py", "analysis/*.py", "pictures/*.py")
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
    exec(first, names)
    assert "learning rate" in capsys.readouterr().out
    assert names["model"].optimizer.iterations > 0
    names = {}

    for block in others:
        exec(block, names)

    assert names["finder"].lr > 0
    assert names["callback"].lr > 0
    assert (tmp_path / "plots" / "smooth_loss.jpg").exists()
    assert (tmp_path / "curve.json").exists()
    plt.close("all")


GUIDE = [d for d in DOCUMENTS if d.startswith("docs/guide/")]


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "python")])
def test_guide_runs(page, tmp_path, monkeypatch):
    """All Python of a page runs, from its first line to its last."""
    monkeypatch.chdir(tmp_path)
    names = setting()
    for block in blocks(page, "python"):
        exec(block, names)
    plt.close("all")


def test_factors_in_the_guide_are_those_that_are_taken():
    """How schedule and length move the LR, as the page has it in a table."""

    def factor(kind, schedule, steps, base=("constant", None)):
        known = keras_lrfinder.Suggestion(
            1.0, 0.1, 9.0, "high", "default", "", *base, kind=kind
        )
        return known.lr_for(schedule, steps)

    lines = [
        f"| {n:,} | "
        + " | ".join(
            f"{factor(kind, 'cosine', n, ('constant', n)):.1f}"
            for kind in ("momentum", "adam")
        )
        + " | "
        + " | ".join(
            f"{factor(kind, 'constant', n, ('constant', 500)):.2f}"
            for kind in ("momentum", "adam")
        )
        + " |"
        for n in (500, 2000, 8000)
    ]
    page = (ROOT / "docs/guide/schedules.md").read_text(encoding="utf-8")
    assert "\n".join(lines) in page


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "py")])
def test_guide_that_does_not_run_is_python(page):
    """What needs packages that are not here has the right syntax."""
    for block in blocks(page, "py"):
        ast.parse(block)


@pytest.mark.parametrize("place", ["mkdocs.yml", "README.md", "docs/index.md"])
def test_every_page_of_the_guide_is_named(place):
    """No page is left that nobody finds."""
    text = (ROOT / place).read_text(encoding="utf-8")
    names = [page.removeprefix("docs/") for page in GUIDE]
    assert [name for name in names if name not in text] == []


@pytest.mark.parametrize("name", sorted(keras_lrfinder.__all__))
def test_guide_uses_every_public_name(name):
    """Whoever reads the guide meets all there is, in code that runs."""
    code = "\n".join(b for page in GUIDE for b in blocks(page, "python"))
    assert re.search(rf"\b{name}\b", code)


# What 0.1.0, and what came before 0.2, had and 0.2 has not.
GONE = (
    "budget",
    "finder.one_cycle",
    "OneCycleMomentum",
    "one_cycle_max_lr",
    "triangular_bounds",
    "constant_lr",
    "to_pandas",
    "to_text",
    "save_tensorboard",
    "finder.probes",
    "lrfinder[tensorboard]",
)


@pytest.mark.parametrize("name", GONE)
def test_no_document_promises_what_is_gone(name):
    """But the changelog, which says that it is gone."""
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for pattern in ("*.md", "docs/**/*.md", "examples/*", "*.toml")
        for path in ROOT.glob(pattern)
        if path.suffix in {".md", ".py", ".ipynb", ".toml"}
    }
    del texts["CHANGELOG.md"]
    assert [path for path, text in texts.items() if name in text] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_figure_is_left_open(document):
    """Whatever is measured is there."""
    assert "FIGURE" not in (ROOT / document).read_text(encoding="utf-8")


def test_readme_is_two_screens():
    """What is longer belongs on the site."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 140


def test_first_screen_is_seven_lines_of_code():
    """One import, and what is done with it: here and on the site."""
    first = blocks("README.md", "python")[0]

    assert len(first.splitlines()) == 7
    assert blocks("docs/index.md", "python")[0] == first


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
