"""Which batches of a fit make up one update of the weights."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_lrfinder.training.keras_internals import batches_seen
from keras_lrfinder.training.learning_rate import SweptRate

# Mixed precision skips updates while the gradients overflow, some eight at
# the start. So many in a row only come where they are not finite at all.
_MOST_SKIPPED = 40


class Updates:
    """Collects the losses of the batches that share one update.

    Gradient accumulation makes an update of several batches,
    `steps_per_execution` calls the hooks once for several, and mixed
    precision skips updates.

    Args:
        model: The compiled Keras model, in `on_train_begin`.
        rate: The optimizers that are swept.
    """

    def __init__(self, model: Any, rate: SweptRate) -> None:
        leaf = rate.leaves[0]
        per_update = leaf.gradient_accumulation_steps or 1
        self.per_call = getattr(model, "steps_per_execution", 1) or 1
        self._per_step = math.lcm(per_update, self.per_call) // self.per_call
        seen = int(keras.ops.convert_to_numpy(batches_seen(leaf)))
        self._phase = seen % per_update if self.per_call == 1 else 0
        self._rate = rate
        self._done = rate.updates()
        self._skipped = 0
        self._losses: list[float] = []

    def per_epoch(self, batches: int) -> int:
        """Returns how many updates an epoch of so many batches makes."""
        return int(max(-(-batches // self.per_call) // self._per_step, 1))

    def in_fit(self, batches: int, epochs: int) -> int:
        """Returns how many updates a fit makes from here on."""
        calls = epochs * -(-batches // self.per_call)
        return int((calls + self._phase) // self._per_step)

    def add(self, loss: float) -> bool:
        """Adds the loss of a call; returns whether it completes an update."""
        self._losses.append(loss)
        if len(self._losses) < self._per_step - self._phase:
            return False
        self._phase = 0
        return True

    def advanced(self) -> bool:
        """Returns whether there was an update since `moved` was asked."""
        return self._rate.updates() > self._done

    def moved(self) -> bool:
        """Returns whether the optimizers have made an update since asked.

        After many that were skipped the answer is yes, and the loss NaN.
        """
        done = self._rate.updates()
        advanced = done > self._done
        self._done = done
        self._skipped = 0 if advanced else self._skipped + 1
        if self._skipped >= _MOST_SKIPPED:
            self._losses[:] = [math.nan]
            return True
        if not advanced:
            # The learning rate was not used: it stays for the next batches.
            self._losses.clear()
        return advanced

    def take_loss(self) -> float:
        """Returns the mean loss of the update, and forgets its batches."""
        losses = self._losses
        loss = losses[0] if len(losses) == 1 else sum(losses) / len(losses)
        losses.clear()
        return loss
