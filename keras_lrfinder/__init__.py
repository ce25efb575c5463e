"""The learning rate range test for Keras, done right."""

from keras_lrfinder.curve import Curve
from keras_lrfinder.curve import StopReason
from keras_lrfinder.range_test import RangeTest
from keras_lrfinder.suggestions import RULES
from keras_lrfinder.suggestions import Suggestion
from keras_lrfinder.suggestions import suggest

__version__ = "0.1.0"

__all__ = [
    "RULES",
    "Curve",
    "RangeTest",
    "StopReason",
    "Suggestion",
    "suggest",
]
