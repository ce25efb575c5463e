"""The moving statistics of batch normalisation, taken anew from data.

They follow slowly what a layer's inputs have become: after 60 steps with
Keras's momentum of 0.99 nearly half of them is what they were before the first
step. Judged with these, a short run seems to have learnt nothing. Taken anew
at the weights as they are, they are what they would come to be.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.keras_internals import layers_of
from keras_lrfinder.training.variables import host_copy

# What a model raises whose `call` does not take the inputs of `fit`.
_NOT_CALLABLE = (
    AttributeError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


class MovingStatistics:
    """The moving means and variances of a built model.

    Args:
        model: The Keras model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._norms = [
            layer
            for layer in layers_of(model)
            if isinstance(layer, keras.layers.BatchNormalization)
            and layer.trainable
            and layer.built
        ]
        self._modules = _torch_norms(model)
        self._on_jax: Callable[..., Any] | None = None

    def renew(self, inputs: Iterable[Any]) -> None:
        """Sets them to their means over some batches.

        Where the model cannot be called on these, they stay as they are.

        Args:
            inputs: Inputs of batches.
        """
        if not self._norms and not self._modules:
            return
        variables = self._variables()
        before = [host_copy(variable) for variable in variables]
        try:
            if keras.backend.backend() == "jax":
                self._renew_on_jax(variables, inputs)
            else:
                self._renew(inputs)
        except _NOT_CALLABLE:
            for variable, value in zip(variables, before):
                variable.assign(value)

    def _variables(self) -> list[Any]:
        return [
            variable
            for layer in self._norms
            for variable in (layer.moving_mean, layer.moving_variance)
        ]

    def _renew(self, inputs: Iterable[Any]) -> None:
        momenta = [layer.momentum for layer in self._norms]
        of_modules = [module.momentum for module in self._modules]
        for module in self._modules:
            module.reset_running_stats()
            module.momentum = None  # PyTorch's word for the plain mean
        try:
            for seen, x in enumerate(inputs):
                for layer in self._norms:
                    layer.momentum = seen / (seen + 1.0)
                with _no_gradients():
                    self._model(x, training=True)
        finally:
            for layer, momentum in zip(self._norms, momenta):
                layer.momentum = momentum
            for module, momentum in zip(self._modules, of_modules):
                module.momentum = momentum

    def _renew_on_jax(
        self, variables: list[Any], inputs: Iterable[Any]
    ) -> None:
        """Compiled, as JAX would compile every operation by itself."""
        model = self._model
        if self._on_jax is None:
            self._on_jax = self._compiled(variables)
        weights = [v.value for v in model.trainable_variables]
        state = [v.value for v in model.non_trainable_variables]
        found = [self._on_jax(weights, state, x) for x in inputs]
        for variable, values in zip(variables, zip(*found)):
            variable.assign(np.mean([np.asarray(v) for v in values], axis=0))

    def _compiled(self, variables: list[Any]) -> Callable[..., Any]:
        import jax

        model, norms = self._model, self._norms
        ids = [id(v) for v in model.non_trainable_variables]
        places = [ids.index(id(variable)) for variable in variables]

        def statistics(weights: Any, state: Any, x: Any) -> Any:
            momenta = [layer.momentum for layer in norms]
            for layer in norms:
                layer.momentum = 0.0
            try:
                _, state = model.stateless_call(
                    weights, state, x, training=True
                )
            finally:
                for layer, momentum in zip(norms, momenta):
                    layer.momentum = momentum
            return [state[place] for place in places]

        return jax.jit(statistics)  # type: ignore[no-any-return]


def _torch_norms(model: Any) -> list[Any]:
    """Returns the batch normalisations within wrapped PyTorch modules."""
    if keras.backend.backend() != "torch":
        return []
    from torch import nn

    kinds = (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.BatchNorm3d,
        nn.SyncBatchNorm,
    )
    return [
        module
        for module in model.modules()
        if isinstance(module, kinds) and module.running_mean is not None
    ]


def _no_gradients() -> Any:
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
