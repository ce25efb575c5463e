"""Learning rates and losses to draw."""

import numpy as np
from hypothesis import strategies as st

POINTS = st.lists(
    st.tuples(st.floats(min_value=1e-300, max_value=1e300), st.floats()),
    max_size=30,
)


def run(steps=200, height=1e5):
    """A descent from 2.3 to 0.3 at 1e-3, and a blow-up beyond 1."""
    lrs = np.geomspace(1e-6, 10.0, steps)
    losses = 0.3 + 2.0 / (1.0 + (lrs / 1e-3) ** 1.5)
    losses += np.random.default_rng(0).normal(0.0, 0.05, steps)
    return lrs, np.where(lrs > 1.0, losses + height * (lrs - 1.0), losses)
