"""Which number goes where: constant, one-cycle, triangular."""

import pytest

from keras_lrfinder import Suggestion
from keras_lrfinder.analysis.uses import constant
from keras_lrfinder.analysis.uses import one_cycle_max_lr
from keras_lrfinder.analysis.uses import triangular_bounds

NARROW = Suggestion(0.01, 0.008, 0.012, "high", "default", "seen")
WIDE = Suggestion(0.01, 0.001, 0.1, "low", "default", "seen")
NONE = Suggestion(None, None, None, "none", "default", "it never fell")


def test_constant_is_the_suggestion():
    """A constant learning rate is the suggested one."""
    assert constant(WIDE) == 0.01


@pytest.mark.parametrize(
    ("suggestion", "peak"), [(WIDE, 0.02), (NARROW, 0.012)]
)
def test_peak_is_double_within_what_would_do(suggestion, peak):
    """The peak is twice the suggestion, at most its upper end."""
    assert one_cycle_max_lr(suggestion) == peak


def test_base_is_a_fourth_of_the_peak():
    """A triangular cycle spans a factor of four, as Smith (2015) says."""
    assert triangular_bounds(WIDE) == (0.005, 0.02)


@pytest.mark.parametrize("use", [constant, one_cycle_max_lr, triangular_bounds])
def test_no_learning_rate_raises_the_reason(use):
    """Without a learning rate the error says why there is none."""
    with pytest.raises(ValueError, match="it never fell"):
        use(NONE)


def test_a_suggestion_names_its_numbers_itself():
    """The same numbers are properties of the suggestion."""
    assert WIDE.constant_lr == constant(WIDE)
    assert WIDE.one_cycle_max_lr == one_cycle_max_lr(WIDE)
    assert WIDE.triangular_bounds == triangular_bounds(WIDE)


def test_a_suggestion_shows_itself_in_a_notebook():
    """Its card has the number, or says that there is none and why."""
    assert "1.00e-02" in WIDE._repr_html_()
    assert "it never fell" in NONE._repr_html_()
