"""Nothing but `keras_lrfinder/training/keras_internals.py` is private.

That is, touches names of other libraries that begin with an underscore.
"""

import ast
import functools
import pathlib

import pytest

import keras_lrfinder

PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
SEAM = PACKAGE / "training" / "keras_internals.py"


def private_names(path):
    """The underscore attributes that a file touches, but its own objects'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in OWN):
                yield node.attr
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKING:
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


OWN = ("self", "cls")
ASKING = ("getattr", "hasattr", "setattr", "delattr")
# Of named tuples, where Python documents them.
PYTHONS = {"_asdict", "_fields", "_make", "_replace"}


@functools.cache
def ours():
    """The underscore names that the package itself gives its objects."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            ):
                names.add(node.attr)
    return names


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p != SEAM],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_private_names_are_touched_in_the_seam_only(path):
    """Nothing else needs to be read when Keras changes."""
    foreign = {n for n in private_names(path) if n.startswith("_")}
    pythons = {name for name in foreign if name.endswith("__")}

    assert foreign - pythons - PYTHONS - ours() == set()


def test_search_for_private_names_can_fail():
    """In this file there are some."""
    found = set(private_names(SEAM))
    assert {"_learning_rate", "_flatten_layers", "_rng"} <= found
    assert not {"_learning_rate", "_flatten_layers", "_rng"} & ours()
