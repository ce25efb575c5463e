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
EXAMPLES = [p for p in ROOT.glob("examples/*") if p.suffix in (".py", ".ipynb")]
PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for pattern in ("*.py", "analysis/*.py", "pictures/*.py")
    for path in sorted(PACKAGE.glob(pattern))
    if ">>>" in path.read_text(encoding="utf-8")
]


def text_of(document):
    """Returns what a file of this repository says."""
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document, language):
    """Returns the fenced blocks of a Markdown file."""
    pattern = rf"^```{language}\n(.*?)^```"
    return re.findall(pattern, text_of(document), re.S | re.M)


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstring_examples_are_right(name):
    """What the docstrings of the pure rooms show is what comes out."""
    module = importlib.import_module(f"keras_lrfinder.{name}")
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert (result.failed, result.attempted > 0) == (0, True)


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


@pytest.mark.parametrize("page", [p for p in GUIDE if blocks(p, "py(?:thon)?")])
def test_guide_runs(page, tmp_path, monkeypatch):
    """All Python of a page, but for what needs packages that are not here."""
    monkeypatch.chdir(tmp_path)
    names = setting()
    for block in blocks(page, "python"):
        exec(block, names)
    plt.close("all")
    for block in blocks(page, "py"):
        ast.parse(block)


@pytest.mark.parametrize("steps", [500, 2000, 8000])
def test_factors_in_the_guide_are_those_that_are_taken(steps):
    """How schedule and length move the LR, as the page has it in a table."""
    cells = [f"| {steps:,} |"]
    for schedule, length, digits in (
        ("cosine", steps, 1),
        ("constant", 500, 2),
    ):
        for kind in ("momentum", "adam"):
            known = keras_lrfinder.Suggestion(
                1.0,
                0.1,
                9.0,
                "high",
                "default",
                "",
                "constant",
                length,
                kind=kind,
            )
            cells.append(f"{known.lr_for(schedule, steps):.{digits}f} |")
    assert " ".join(cells) in text_of("docs/guide/schedules.md")


@pytest.mark.parametrize("place", ["mkdocs.yml", "README.md", "docs/index.md"])
def test_every_page_of_the_guide_is_named(place):
    """No page is left that nobody finds."""
    names = [page.removeprefix("docs/") for page in GUIDE]
    assert [name for name in names if name not in text_of(place)] == []


@pytest.mark.parametrize("name", sorted(keras_lrfinder.__all__))
def test_guide_and_reference_have_every_public_name(name):
    """Whoever reads the guide meets all there is, in code that runs."""
    guide = "\n".join(b for page in GUIDE for b in blocks(page, "python"))
    pages = (d for d in DOCUMENTS if d.startswith("docs/api/"))
    for text in (guide, "".join(map(text_of, pages))):
        assert re.search(rf"\b{name}\b", text)


# What 0.1.0, and what came before 0.2, had and 0.2 has not; and a figure that
# is still to be measured.
GONE = """
    FIGURE budget finder.one_cycle OneCycleMomentum one_cycle_max_lr
    triangular_bounds constant_lr to_pandas to_text save_tensorboard
    finder.probes lrfinder[tensorboard]
"""


@pytest.mark.parametrize("name", GONE.split())
def test_no_document_promises_what_is_gone(name):
    """But the changelog, which says that it is gone; nor is a figure open."""
    examples = [p.relative_to(ROOT).as_posix() for p in EXAMPLES]
    searched = {*DOCUMENTS, *examples, "pyproject.toml"} - {"CHANGELOG.md"}
    assert [path for path in searched if name in text_of(path)] == []


def test_readme_is_two_screens_and_the_first_has_seven_lines_of_code():
    """One import, and what is done with it: here and on the site."""
    assert len(text_of("README.md").splitlines()) <= 140
    first = blocks("README.md", "python")[0]
    assert len(first.splitlines()) == 7
    assert blocks("docs/index.md", "python")[0] == first


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    """To files that exist, and to headings of the document itself."""
    text = text_of(document)
    headings = {
        "#" + re.sub(r"[^\w -]", "", line.lower()).strip().replace(" ", "-")
        for line in re.findall(r"^#+ (.*)$", text, re.M)
    }
    here = (ROOT / document).parent
    missing = [
        target
        for target in re.findall(r"\]\(([^)\s]+)\)", text)
        if not re.match(r"https?:", target)
        and target not in headings
        and (target[0] == "#" or not (here / target.split("#")[0]).exists())
    ]
    assert missing == []


def test_rule_in_ten_lines_works(monkeypatch):
    """The rule that CONTRIBUTING adds halves the fall of a known curve."""
    rules, names = keras_lrfinder.RULES, {}
    monkeypatch.setitem(rules, "halfway", None)  # and away again
    for block in blocks("CONTRIBUTING.md", "python"):
        exec(block, names)
    # The fall is from 1e-3 to 1e-1, its middle at 1e-2.
    lrs = np.geomspace(1e-4, 1.0, 41)
    losses = 1 - np.clip(np.log10(lrs) + 3, 0, 2) / 2
    curve = names["Curve"](lrs=lrs, losses=losses, smoothed=losses)
    assert names["halfway"](curve) == pytest.approx(1e-2, rel=1e-6)
    assert names["suggest"](curve, "halfway").rule == "halfway"


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
    version = f"## [{keras_lrfinder.__version__}]"
    assert version in text_of("CHANGELOG.md")
