"""What `lr_find` and `LRFinder` share: what they are told, what they offer."""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import keras

from keras_lrfinder import arguments
from keras_lrfinder.analysis import suggestions
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.pictures import plotting
from keras_lrfinder.pictures import report as words
from keras_lrfinder.schedules import SCHEDULES
from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import learning_rate as rates
from keras_lrfinder.training.snapshot import check_model


class Runs(tuple[Run, ...]):
    """The runs after a ramp, in the order made; printed, a table."""

    __slots__ = ()

    def __str__(self) -> str:
        rows = words.run_rows(self)
        return words.text_table(rows) if self else "no run after the ramp"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return words.html_table(words.run_rows(self)) if self else str(self)


class Result:
    """What a finished range test offers: an `LRFinder` is one after its fit."""

    def __init__(
        self,
        curve: Curve | None = None,
        suggestion: Suggestion | None = None,
        runs: Sequence[Run] = (),
        *,
        model: Any = None,
        optimizer: Any = None,
        rule: Any = "default",  # for the suggestion, where none is given
        steps_per_epoch: int | None = None,
        restored: bool = True,
        plot_dir: Any = None,
        verbose: int = 1,
    ) -> None:
        suggestions.check_rule(rule)
        arguments.check_flag("restore", restored)
        arguments.check_flag("verbose", verbose)
        self._curve, self._suggestion = curve, suggestion
        self._rule, self._runs = rule, Runs(runs)
        self._model, self._optimizer = model, optimizer
        self._epoch_batches = steps_per_epoch
        self._restores, self._verbose = restored, verbose
        self._plot_dir = arguments.directory_path("plot_dir", plot_dir)

    @property
    def curve(self) -> Curve:
        """What the ramp measured."""
        if self._curve is None:
            raise RuntimeError(
                "no range test has been run yet: pass this callback to "
                "`model.fit(…, callbacks=[finder])` first"
            )
        return self._curve

    @property
    def suggestion(self) -> Suggestion:
        """Which learning rate to train with, how sure that is, and why."""
        if self._suggestion is None:
            return suggestions.suggest(self.curve, self._rule)
        return self._suggestion

    @property
    def runs(self) -> Runs:
        """The probes and whole trainings that were made after the ramp."""
        return self._runs

    @property
    def lr(self) -> float:
        """The suggested learning rate, or peak; `ValueError` without one."""
        return float(self.suggestion)

    def __float__(self) -> float:
        return self.lr

    def plot(self, ax: Any = None, rules: Sequence[str] = ()) -> Any:
        """Draws the curve with the suggestion, and returns the Axes.

        As the last line of a notebook's cell it shows the picture; in a
        script `plt.show()` does, and `plt.savefig(…)` writes it.

        Args:
            ax: A matplotlib Axes to draw into, or None for a new figure.
            rules: Names in `RULES` whose answers are marked as well.
        """
        found = self.curve, self.suggestion
        return plotting.plot_curve(*found, runs=self.runs, rules=rules, ax=ax)

    def save_plots(self, directory: str | os.PathLike[str]) -> Any:
        """Writes `loss.jpg` and `smooth_loss.jpg` into `directory`.

        Returns the paths of both.
        """
        folder = arguments.directory_path("directory", directory) or "."
        found = self.curve, self.suggestion
        return plotting.save_plots(*found, folder, runs=self.runs)

    def apply(
        self,
        model: Any = None,
        *,
        schedule: str | None = None,
        epochs: int | None = None,
        total_steps: int | None = None,
    ) -> float:
        """Sets what the training takes, and says so in one line.

        That is the learning rate where it is to stay, else a Keras schedule
        with its peak and length, which begins at the step where the optimizer
        stands and stays at its last value, in place of whatever was there. The
        model can be saved, checkpointed and exported as before (to load it
        elsewhere, `import keras_lrfinder.schedules`), and `apply` called again.

        Args:
            model: The model to set it on, of its optimizers the one that the
                test swept. None: the model that was tested.
            schedule: `"constant"`, `"cosine"`, `"one_cycle"` or
                `"triangular"`. None: the one that the test was told.
            epochs: Integer >= 1, those of the fit that follows.
            total_steps: Integer >= 1, its steps (updates), instead. Neither:
                what the test was told.

        Returns:
            The learning rate, of a schedule the peak: `lr` where no other
            training is asked for.

        Raises:
            ValueError: There is no learning rate, with the reason; or `model`
                has another optimizer; or the length is not known.
        """
        found = self.suggestion
        float(found)  # raises where there is none
        model = self._model if model is None else model
        leaves = self._leaves(model)
        per_update = leaves[0].gradient_accumulation_steps or 1
        if epochs is None and total_steps is None:
            total_steps = found.total_steps
        steps, batches = length_of_training(
            epochs, total_steps, self._epoch_batches, per_update
        )
        schedule = schedule or found.schedule
        lr = found.lr_for(schedule, steps)
        values, said = [lr] * len(leaves), f"{lr:.1e}"
        if schedule != "constant":
            if batches is None:
                raise ValueError(
                    f"`epochs` or `total_steps` must be given: {schedule} has "
                    "an end. Received: epochs=None, total_steps=None"
                )
            seen = map(internals.batches_seen, leaves)
            begins = map(int, map(keras.ops.convert_to_numpy, seen))
            values = [SCHEDULES[schedule](lr, batches, n) for n in begins]
            unit = "steps" if per_update == 1 else "batches"
            said = f"{schedule} with peak {said} over {batches:,} {unit}"
        said = _said(leaves, said)
        for leaf, value in zip(leaves, values):
            rates.apply_learning_rate(model, [leaf], value)
        if self._verbose and is_chief():
            print(said + self._then(batches, per_update))
        return lr

    def _leaves(self, model: Any) -> list[Any]:
        """Returns those of a model's optimizers that are like the tested."""
        check_model(model)
        optimizers = rates.named_optimizers(model, self._optimizer)
        own = set(map(id, rates.all_optimizers(model)))
        if not own.issuperset(map(id, optimizers)):
            raise ValueError(
                "`model` must hold the optimizer that was tested; set the "
                f"learning rate of its own to {self.lr:.1e} by hand. "
                f"Received: model={model!r}"
            )
        rates.check_kind(optimizers, self.curve.optimizer)
        return rates.leaves_of(optimizers)

    def _then(self, batches: int | None, per_update: int) -> str:
        """Returns what to call next."""
        if batches is None:
            return ": call fit"
        epoch = self._epoch_batches
        # A last update may want for batches.
        if epoch is not None and -batches % epoch < per_update:
            size = self.curve.batch_size
            same = f" and batch_size={size // per_update}" if size else ""
            return f": call fit with epochs={-(-batches // epoch)}{same}"
        return f": call fit for {batches // per_update:,} steps"

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Returns the outcome as plain numbers and strings.

        For experiment trackers, reports and tests: `mlflow.log_dict`,
        `wandb.config.update`, `json.dump`. `curve.to_json()` has the losses.
        """
        found, curve = self.suggestion, self.curve
        said = ["lr", "low", "high", "confidence", "rule", "reason"]
        said += ["schedule", "total_steps"]
        best = float(curve.best_loss)
        return {
            **{name: getattr(found, name) for name in said},
            "optimizer": curve.optimizer,
            "steps": len(curve),
            "stop_reason": str(curve.stop_reason),
            "best_loss": best if math.isfinite(best) else None,
            "batch_size": curve.batch_size,
            "runs": len(self.runs),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the model, which is no part of the outcome."""
        named = self._optimizer if isinstance(self._optimizer, str) else None
        return {**vars(self), "_model": None, "_optimizer": named}

    def __repr__(self) -> str:
        lr = self.suggestion.lr
        return f"Result(lr={lr if lr is None else f'{lr:.1e}'})"

    def __str__(self) -> str:
        report = words.text_report(self.curve, self.suggestion, self.runs)
        left = self._left_behind()
        return f"{report}\n({left})" if left else report

    def _repr_html_(self) -> str:
        return words.html_report(self.curve, self.suggestion, self.runs)

    def _left_behind(self) -> str:
        """Returns what the test has left of the model, in words."""
        if not self._restores:
            return ""
        return "nothing of the test stays in the model"


def length_of_training(
    epochs: Any, total_steps: Any, epoch_batches: int | None, per_update: int
) -> tuple[int | None, int | None]:
    """Returns the updates and the batches of a training, as far as is said."""
    if total_steps is not None and epochs is not None:
        raise ValueError(
            "`epochs` must be left out where `total_steps` is given. "
            f"Received: {epochs=}, {total_steps=}"
        )
    if total_steps is not None:
        steps = arguments.integer("total_steps", total_steps, 1)
        return steps, steps * per_update
    if epochs is None:
        return None, None
    epochs = arguments.integer("epochs", epochs, 1)
    if epoch_batches is None:
        raise ValueError(
            "`total_steps` must be given in place of `epochs`, or "
            "`steps_per_epoch` with it: nobody knows how many batches an "
            f"epoch of the data has. Received: {epochs=}"
        )
    batches = epochs * epoch_batches
    return max(batches // per_update, 1), batches


def is_chief() -> bool:
    """Returns whether this is the one process that writes and speaks."""
    backend = keras.backend.backend()
    if backend == "jax":
        return bool(sys.modules["jax"].process_index() == 0)
    if backend == "torch":
        group = sys.modules["torch"].distributed
        if group.is_available() and group.is_initialized():
            return bool(group.get_rank() == 0)
    return True


def finish(
    result: Result,
    curve: Curve,
    suggestion: Suggestion | None = None,
    runs: Sequence[Run] = (),
) -> None:
    """Takes what was found; writes the pictures, and says the verdict."""
    result._curve, result._suggestion = curve, suggestion
    result._runs = Runs(runs)
    if not is_chief():
        return
    try:
        if result._plot_dir is not None:
            result.save_plots(result._plot_dir)
    except Exception as error:  # what was measured must not be lost for it
        warnings.warn(
            f"no picture was written ({type(error).__name__}: {error}); "
            "nothing else is lost, and `save_plots` tries it again",
            stacklevel=2,
        )
    if result._verbose:
        print(words.line(result.curve, result.suggestion))


def _said(leaves: list[Any], lr: str) -> str:
    """Returns whose learning rate is now what, in place of which schedule."""
    names = dict.fromkeys(f"{type(leaf).__name__}'s" for leaf in leaves)
    was = [internals.learning_rate_of(leaf) for leaf in leaves]
    gone = dict.fromkeys(
        getattr(one, "__name__", type(one).__name__)
        for one in was
        if not hasattr(one, "assign")
    )
    place = f", in place of {' and '.join(gone)}" if gone else ""
    return f"{' and '.join(names)} learning rate is now {lr}{place}"
