"""The learning rate range test for Keras, done right."""

from importlib import import_module as _import_module
from importlib.util import find_spec as _find_spec
from typing import TYPE_CHECKING
from typing import Any as _Any

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.search import Plan
from keras_lrfinder.analysis.search import search
from keras_lrfinder.analysis.suggestions import RULES
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import compare_rules
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.version import __version__ as __version__

if TYPE_CHECKING:
    from keras_lrfinder.pictures.plotting import plot_curves
    from keras_lrfinder.schedules.one_cycle import OneCycle
    from keras_lrfinder.schedules.triangular import Triangular
    from keras_lrfinder.training.comparison import compare_lr
    from keras_lrfinder.training.finder import LRFinder
    from keras_lrfinder.training.lr_find import lr_find
    from keras_lrfinder.training.snapshot import snapshot

__all__ = [
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
]

# These need Keras, whose import takes seconds and a backend, or matplotlib. A
# curve can be read and analysed without, so they are imported when asked for.
_WHEN_ASKED = {
    "LRFinder": "training.finder",
    "OneCycle": "schedules.one_cycle",
    "Triangular": "schedules.triangular",
    "compare_lr": "training.comparison",
    "lr_find": "training.lr_find",
    "plot_curves": "pictures.plotting",
    "snapshot": "training.snapshot",
}

_NO_BACKEND = (
    "Keras needs a backend, and none is installed. Install one of "
    "keras_lrfinder[tensorflow], keras_lrfinder[tensorflow-cpu], "
    "keras_lrfinder[jax] or keras_lrfinder[torch], for example "
    '`pip install "keras_lrfinder[tensorflow]"`.'
)


def __getattr__(name: str) -> _Any:
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = _import_module(f"keras_lrfinder.{_WHEN_ASKED[name]}")
    except ModuleNotFoundError as error:
        if error.name in ("tensorflow", "jax", "torch", "jaxlib"):
            raise ImportError(f"{_NO_BACKEND} ({error})") from error
        raise
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not any(map(_find_spec, ("tensorflow", "jax", "torch"))):
    import warnings as _warnings

    _warnings.warn(_NO_BACKEND, stacklevel=2)
