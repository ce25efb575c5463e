"""The one registry: which tasks there are, in which family, seen or not.

Needs no JAX; `problems.py` makes them ready. A family's name is that of its
kin, if any: all of it is left out together. `UNSEEN` and `LATER` families take
no part in any fit; `NEW` ones were recorded once everything was fixed. `KERAS`
and `LATER` are models in Keras, recorded by the benchmark before this one (as
of commit 1c9bc91, where their code is): 500 constant steps, of some 2,000.
"""

from __future__ import annotations

from dataclasses import dataclass

SEEN, UNSEEN, NEW, KERAS, LATER = "seen", "unseen", "new", "keras", "later"


@dataclass(frozen=True)
class Task:
    """A task: its name (that of its function in `problems.py`) and its kin.

    Attributes:
        name, family: Strings.
        batch: Integer, samples of a batch.
        group: String, as above.
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
        Task("physics", "physics", 16, UNSEEN),
        Task("denoising", "reconstruction", 16, UNSEEN),
        Task("graph", "graph", 8, UNSEEN),
        Task("noisy_digits", "noise", 16, UNSEEN),
        Task("vision", "image", 8, UNSEEN),
        Task("sines", "sines", group=NEW),
        Task("scales", "scales", group=NEW),
        Task("weighted", "weighted", group=NEW),
    )
}
# Task names by family.
_IN_KERAS = {
    "digits": "digits_mlp digits_raw digits_deep",
    "noise": "digits_noisy clusters",
    "small": "digits_small diabetes_small",
    "tabular": "breast_cancer wine wine_raw",
    "regression": "diabetes friedman friedman_absolute friedman_gaussian",
    "image": "mnist_mlp mnist_residual mnist_cnn_norm mnist_cnn",
    "reconstruction": "mnist_autoencoder",
    "imbalance": "mnist_rare",
    "text": "text_pool text_convolution text_larger text_bag",
    "finetuning": "finetune_head finetune_whole finetune_shifted",
    "sequence": "wave_lstm",
    "bytes": "byte_gru byte_transformer",
    "later": "iris moons linear_targets digits_cnn digits_autoencoder "
    "digits_normed mnist_softmax mnist_rows text_gru",
}
for _family, _names in _IN_KERAS.items():
    for _name in _names.split():
        TASKS[f"keras_{_name}"] = Task(
            f"keras_{_name}",
            _family,
            group=LATER if _family == "later" else KERAS,
        )
