"""The one registry: which tasks there are, in which family, seen or not.

Needs no JAX; `problems.py` makes them ready. A family's name is that of its
kin, if any: all of it is left out together. Unseen families take no part in
any fit. `NEW` ones were recorded once everything was fixed.
"""

from __future__ import annotations

from dataclasses import dataclass

SEEN, UNSEEN, NEW = "seen", "unseen", "new"


@dataclass(frozen=True)
class Task:
    """A task: its name (that of its function in `problems.py`) and its kin.

    Attributes:
        name, family: Strings.
        batch: Integer, samples of a batch.
        group: String, `SEEN`, `UNSEEN` or `NEW`.
        signed: Whether its loss may be negative: compared by difference.
    """

    name: str
    family: str
    batch: int = 32
    group: str = SEEN
    signed: bool = False


TASKS = {
    task.name: task
    for task in (
        Task("mlp_digits", "digits"),
        Task("softmax_digits", "digits"),
        Task("fourier", "fourier"),
        Task("contrastive", "contrastive", 16),
        Task("tabular", "tabular", 16),
        Task("language", "bytes", 16),
        Task("density", "density", signed=True),
        Task("cnn_norm", "image", 16),
        Task("residual", "residual", 16),
        Task("finetuning", "finetuning"),
        Task("transformer", "transformer", 8),
        Task("taught", "teaching", 16),
        Task("forecast", "sequence", 8),
        Task("ratings", "recommender", 64),
        Task("friedman", "regression", 16),
        Task("variational", "reconstruction", 16),
        Task("reviews", "text", 16),
        Task("deep", "deep", 16),
        Task("rare", "imbalance"),
        Task("robust", "robust"),
        Task("poisson", "counts", 16),
        Task("multilabel", "multilabel"),
        Task("ranking", "ranking", 16),
        Task("quantile", "density"),
        Task("signals", "signals", 16),
        Task("mixer", "mixer", 16),
        Task("physics", "physics", 16, UNSEEN),
        Task("denoising", "reconstruction", 16, UNSEEN),
        Task("graph", "graph", 8, UNSEEN),
        Task("noisy_digits", "noise", 16, UNSEEN),
        Task("vision", "image", 8, UNSEEN),
    )
}
