"""The package as a whole: its names, its layers, what importing it loads."""

import ast
import functools
import pathlib
import re
import subprocess
import sys

import pytest

import keras_lrfinder

PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
ROOT = pathlib.Path(__file__).parent.parent

PUBLIC = """
    RULES Curve LRFinder OneCycle Plan RangeTest Run StopReason Suggestion
    Triangular compare_lr compare_rules lr_find plot_curves search snapshot
    suggest
"""
PUBLIC = set(PUBLIC.split())

# What the modules of a folder, or a module beside them, may import of the
# rest of the package. "" stands for the modules that lie beside the folders.
ROOMS = {
    "": {""},
    "analysis": {"", "analysis"},
    "pictures": {"", "analysis", "pictures"},
    "schedules": {"", "schedules"},
    "training": {"", "analysis", "pictures", "schedules", "training"},
}
PURE = {"", "analysis", "pictures"}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != PACKAGE or path.stem != "__init__"
}
HEAVY = ("matplotlib", "scipy", "tensorflow", "jax", "torch", "keras")


TREES = {
    name: ast.parse(path.read_text(encoding="utf-8"))
    for name, path in MODULES.items()
}


def imports(name):
    """Every module that a module imports, and whether that is at its top."""
    tree = TREES[name]
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif not isinstance(node, ast.ImportFrom):
            continue
        elif node.module == "keras_lrfinder":
            found = [f"keras_lrfinder.{alias.name}" for alias in node.names]
        else:
            found = [node.module or ""]
        if node not in for_types:
            yield from ((module, node in tree.body) for module in found)


def room(module):
    """The folder in which a module of the package lies, "" for none."""
    parts = module.split(".")
    return parts[0] if (PACKAGE / parts[0]).is_dir() else ""


def own_imports(name):
    """The modules of this package that a module imports."""
    return {
        other.split(".", 1)[1]
        for other, _ in imports(name)
        if other.startswith("keras_lrfinder.")
    }


def test_public_names_are_those_promised():
    """No name is lost, none is public by accident; others are no attributes."""
    assert set(keras_lrfinder.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(keras_lrfinder, name) is not None
        assert name in dir(keras_lrfinder)
    with pytest.raises(AttributeError, match="lrfind"):
        _ = keras_lrfinder.lrfind


def test_what_lies_beside_the_modules_is_installed_with_them():
    """Constants, the mark that it is typed, and the one version number."""
    from keras_lrfinder.version import __version__

    beside = {"constants.json", "py.typed"}
    assert beside <= {path.name for path in PACKAGE.iterdir()}
    assert keras_lrfinder.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", __version__)


def test_every_folder_has_its_rule():
    """A new folder must be said what it may import."""
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS) - {""}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_what_its_folder_may(name):
    """Nothing points up, not even in a function; what is pure is light.

    Curves, rules and pictures need neither Keras nor, to load, SciPy, and
    never print. On the other side the backend is the user's choice.
    """
    mine = room(name)
    assert {room(m) for m in own_imports(name)} <= ROOMS[mine]
    found = {module.split(".")[0] for module, _ in imports(name)}
    at_top = {module.split(".")[0] for module, top in imports(name) if top}
    if mine in PURE:
        assert at_top.isdisjoint(HEAVY)
        assert "keras" not in found
    assert at_top.isdisjoint({"tensorflow", "jax", "torch", "matplotlib"})
    calls = [n.func for n in ast.walk(TREES[name]) if isinstance(n, ast.Call)]
    assert mine == "training" or "print" not in map(ast.unparse, calls)


def test_contributing_names_every_module():
    """Each once, with its line, and none that is not there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"^- `([\w/]+)\.py`: \S", text, re.MULTILINE)
    named = [path.replace("/", ".") for path in paths]
    there = [name for name in MODULES if not name.endswith("__init__")]

    assert sorted(named) == sorted(there)


SEAM = "training.keras_internals"
ASKING = ("getattr", "hasattr", "setattr", "delattr")
# Of named tuples, where Python documents them.
PYTHONS = {"_asdict", "_fields", "_make", "_replace"}


def private_names(name):
    """The underscore attributes that a module touches, not its objects'."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            if ast.unparse(node.value) not in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ASKING:
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


@functools.cache
def ours():
    """The underscore names that the package itself gives its objects."""
    names = set()
    for node in (n for tree in TREES.values() for n in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute):
            stored = isinstance(node.ctx, ast.Store)
            if stored and ast.unparse(node.value) == "self":
                names.add(node.attr)
    return names


@pytest.mark.parametrize("name", [m for m in MODULES if m != SEAM])
def test_private_names_of_others_are_touched_in_the_seam_only(name):
    """When Keras changes, nothing else needs to be read."""
    foreign = {n for n in private_names(name) if n.startswith("_")}
    pythons = {name for name in foreign if name.endswith("__")}
    assert foreign - pythons - PYTHONS - ours() == set()


def test_search_for_private_names_can_fail():
    """In the seam there are some."""
    names = {"_learning_rate", "_flatten_layers", "_rng"}
    assert names <= set(private_names(SEAM))
    assert not names & ours()


def fresh_interpreter(code):
    """What a new Python prints that runs `code` beside the package."""
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


LOADED = f"import sys; print(*[m for m in {HEAVY} if sys.modules.get(m)])"


@pytest.mark.parametrize(
    ("code", "loaded"),
    [
        ("import keras_lrfinder", []),
        ("import keras_lrfinder, scipy", ["scipy"]),
    ],
)
def test_importing_the_package_loads_nothing_heavy(code, loaded):
    """Neither Matplotlib nor SciPy, Keras nor a backend: they would be seen."""
    assert fresh_interpreter(f"{code}; {LOADED}") == loaded


WITHOUT_BACKEND = """
import importlib.machinery, importlib.util, sys, warnings

class Hides:
    names = ("tensorflow", "jax", "jaxlib", "torch")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

real = importlib.util.find_spec
importlib.util.find_spec = (
    lambda name, *rest: None if name in Hides.names else real(name, *rest)
)
sys.meta_path.insert(0, Hides())
warnings.simplefilter("error" if MODE == "warning" else "ignore")
try:
    import keras_lrfinder
    keras_lrfinder.suggest
    print("imported")
    keras_lrfinder.LRFinder
except (ImportError, UserWarning) as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize("mode", ["warning", "error"])
def test_without_a_backend_it_says_what_to_install(mode):
    """At once as a warning, and as an error where Keras is needed."""
    said = fresh_interpreter(f"MODE = {mode!r}\n{WITHOUT_BACKEND}")
    kind = ["UserWarning"] if mode == "warning" else ["imported", "ImportError"]
    assert said[: len(kind)] == kind
    for extra in ("tensorflow", "tensorflow-cpu", "jax", "torch"):
        assert f"keras_lrfinder[{extra}]" in " ".join(said)


def test_curve_side_works_without_a_backend():
    """A saved curve is read and analysed without Keras, SciPy, Matplotlib."""
    code = "MODE = 'error'\n" + WITHOUT_BACKEND.replace(
        "keras_lrfinder.LRFinder\n",
        "test = keras_lrfinder.RangeTest(1e-3, 1.0, 30)\n"
        "    while test.record(1 / (1 + test.lr)): pass\n"
        "    text = test.curve.to_json()\n"
        "    curve = keras_lrfinder.Curve.from_json(text)\n"
        "    keras_lrfinder.suggest(curve); print('suggested')\n"
        f"    {LOADED}\n",
    )
    assert fresh_interpreter(code) == ["imported", "suggested"]
