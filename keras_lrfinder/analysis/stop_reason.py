"""Why a range test ended, in words."""

from __future__ import annotations

import enum


class StopReason(enum.Enum):
    """Why a range test ended. The value says it in words.

    Attributes:
        cause: String, what happened.
        remedy: String, what to do about it.

    Example:
    >>> StopReason.OUT_OF_DATA.cause
    'the data ran out before the last step'
    """

    COMPLETED = (
        "all steps ran",
        "If the loss was still falling at the end, raise end_lr.",
    )
    DIVERGED = (
        "the loss blew up",
        "This is the usual end of a range test: nothing to do.",
    )
    NOT_FINITE = (
        "the loss became NaN or infinite",
        "The usual end of a range test at a high learning rate; if it came "
        "within the first steps, lower start_lr and check the inputs for NaN.",
    )
    OUT_OF_DATA = (
        "the data ran out before the last step",
        "Use fewer steps, more epochs, or data that can be read again.",
    )
    INTERRUPTED = (
        "the test was interrupted",
        "The curve is valid as far as it goes; run the test to its end.",
    )

    def __init__(self, cause: str, remedy: str) -> None:
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return self.cause
