"""What to train with next: one-cycle and triangular learning rates.

Both are functions of the optimizer's step count alone, so a compiled,
distributed or reloaded model follows them without any state of theirs.
"""

from keras_lrfinder.schedules.one_cycle import OneCycle
from keras_lrfinder.schedules.triangular import Triangular

__all__ = ["OneCycle", "Triangular"]
