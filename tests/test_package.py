"""The package as a whole: its names, its layers, what importing it loads."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

import keras_lrfinder

PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
ROOT = pathlib.Path(__file__).parent.parent

PUBLIC = {
    "RULES",
    "Curve",
    "LRFinder",
    "OneCycle",
    "Plan",
    "RangeTest",
    "Run",
    "StopReason",
    "Suggestion",
    "Triangular",
    "compare_lr",
    "compare_rules",
    "lr_find",
    "plot_curves",
    "search",
    "snapshot",
    "suggest",
}

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


def imports(path):
    """Every module that a file imports, and whether that is at its top."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If)
        and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in tree.body
        elif isinstance(node, ast.ImportFrom):
            if node.module == "keras_lrfinder":
                for alias in node.names:
                    yield f"keras_lrfinder.{alias.name}", node in tree.body
            else:
                yield node.module or "", node in tree.body


def room(module):
    """The folder in which a module of the package lies, "" for none."""
    parts = module.split(".")
    return parts[0] if (PACKAGE / parts[0]).is_dir() else ""


def own_imports(path):
    """The modules of this package that a file imports."""
    return {
        name.split(".", 1)[1]
        for name, _ in imports(path)
        if name.startswith("keras_lrfinder.")
    }


def test_public_names_are_those_promised():
    """No name is lost, and none becomes public by accident."""
    assert set(keras_lrfinder.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_name_can_be_had(name):
    """Also those that load Keras only when asked for."""
    assert getattr(keras_lrfinder, name) is not None
    assert name in dir(keras_lrfinder)


def test_unknown_name_is_an_attribute_error():
    """As with any module."""
    with pytest.raises(AttributeError, match="lrfind"):
        _ = keras_lrfinder.lrfind


def test_package_brings_its_constants_and_says_that_it_is_typed():
    """What lies beside the modules is installed with them."""
    beside = {"constants.json", "py.typed"}
    assert beside <= {path.name for path in PACKAGE.iterdir()}


def test_version_is_in_one_place():
    """The version is that of `version.py` and a plain release number."""
    from keras_lrfinder.version import __version__

    assert keras_lrfinder.__version__ == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+([ab.]\w+)?", __version__)


def test_every_folder_has_its_rule():
    """A new folder must be said what it may import."""
    folders = {p.parent.name for p in PACKAGE.glob("*/__init__.py")}
    assert folders == set(ROOMS) - {""}


@pytest.mark.parametrize("name", MODULES)
def test_module_imports_only_what_its_folder_may(name):
    """Nothing points up, not even inside a function."""
    assert {room(m) for m in own_imports(MODULES[name])} <= ROOMS[room(name)]


def test_contributing_names_every_module():
    """Each once, with its line, and none that is not there."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(r"^- `([\w/]+)\.py`: \S", text, re.MULTILINE)
    named = [path.replace("/", ".") for path in paths]
    there = [name for name in MODULES if not name.endswith("__init__")]

    assert sorted(named) == sorted(there)


def test_no_circle_of_imports():
    """Modules that import each other cannot be read one at a time."""
    left = {
        name: {
            other.removesuffix(".__init__")
            for other in own_imports(path) & set(MODULES)
        }
        for name, path in MODULES.items()
    }
    while free := [name for name, needed in left.items() if not needed]:
        for name in free:
            del left[name]
        for needed in left.values():
            needed.difference_update(free)
    assert left == {}


@pytest.mark.parametrize("name", [m for m in MODULES if room(m) in PURE])
def test_pure_module_imports_nothing_heavy_at_its_top(name):
    """Curves, rules and pictures need neither Keras nor, to load, scipy."""
    found = {(n.split(".")[0], top) for n, top in imports(MODULES[name])}
    assert {n for n, at_top in found if at_top}.isdisjoint(HEAVY)
    assert "keras" not in {n for n, _ in found}


@pytest.mark.parametrize("name", [m for m in MODULES if room(m) not in PURE])
def test_keras_side_loads_no_single_backend(name):
    """Which backend there is, is the user's choice."""
    top = {n.split(".")[0] for n, at_top in imports(MODULES[name]) if at_top}
    assert top.isdisjoint({"tensorflow", "jax", "torch", "matplotlib"})


@pytest.mark.parametrize("name", MODULES)
def test_only_the_keras_side_prints(name):
    """What is pure never prints."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    calls = [
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    assert "print" not in calls or room(name) == "training"


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


def test_importing_the_package_loads_nothing_heavy():
    """Neither matplotlib nor scipy, neither Keras nor a backend."""
    assert fresh_interpreter(f"import keras_lrfinder; {LOADED}") == []


def test_check_of_what_is_loaded_can_fail():
    """The test above would see one that is loaded."""
    code = f"import keras_lrfinder, scipy; {LOADED}"
    assert fresh_interpreter(code) == ["scipy"]


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
    """A saved curve can be read, analysed and drawn without Keras."""
    code = "MODE = 'error'\n" + WITHOUT_BACKEND.replace(
        "keras_lrfinder.LRFinder\n",
        "test = keras_lrfinder.RangeTest(1e-3, 1.0, 30)\n"
        "    while test.record(1 / (1 + test.lr)): pass\n"
        "    keras_lrfinder.suggest(test.curve); print('suggested')\n",
    )
    assert fresh_interpreter(code) == ["imported", "suggested"]
