"""A bag -> trained weights.

A process builds and traces a `Trainer` once per program and resets it for each further member, so that a member does
not depend on what the process trained before. Called by `training`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from spark_cnn_ensemble.worker.augmentation import augment
from spark_cnn_ensemble.worker.bag import Bag, Examples
from spark_cnn_ensemble.worker.class_weighting import balanced
from spark_cnn_ensemble.worker.initial_weights import InitialArrays
from spark_cnn_ensemble.worker.network import (
    STANDARDIZATION,
    build_network,
    compute_in_bfloat16,
    with_losses_of_layers,
)
from spark_cnn_ensemble.worker.optimizers import FusedAdam, KerasOptimizer
from spark_cnn_ensemble.worker.refusal import Divergence, Refusal
from spark_cnn_ensemble.worker.runtime import keras_settings
from spark_cnn_ensemble.worker.standardization import (
    CHUNK_BYTES,
    channel_moments,
    check_variation,
    exceeds_float32,
    standardization_weights,
)
from spark_cnn_ensemble.worker.training_plan import Program, TrainingPlan

# Called while a member trains, with the share of its steps that are done, and a function that returns the epoch's loss.
Observe = Callable[[float, Callable[[], float]], None]


@functools.lru_cache(maxsize=2)
def trainer_of(program: Program) -> Trainer:
    """The trainer of a program, which this process keeps."""
    return Trainer(program)


class Trainer:
    """A network with its compiled steps, ready to train any number of members, one after the other."""

    @keras_settings()
    def __init__(self, program: Program) -> None:
        self.program = program
        self.network = build_network(program.architecture)
        if program.precision == "bfloat16":
            compute_in_bfloat16(self.network)
        variables = self.network.trainable_variables
        self._trainable = [variable.value for variable in variables]
        # Keras applies constraints of weights in its own optimizers.
        fused = program.optimizer == "adam" and all(variable.constraint is None for variable in variables)
        self._optimizer: Any = FusedAdam(self._trainable) if fused else KerasOptimizer(variables, program.optimizer)
        # Rows per call; fewer for larger images, as in scoring.
        self._validation_batch = min(500, max(8, CHUNK_BYTES // (4 * math.prod(program.architecture.input_shape))))
        self._optimizer_start = [(variable, variable.numpy()) for variable in self._optimizer.state]
        self._steps = functools.cache(self._compile_steps)
        self._evaluate = functools.cache(self._compile_evaluation)

    def _compile_steps(self, images: Any, soft: bool) -> Any:
        import tensorflow as tf

        integer, real = tf.TensorSpec([], tf.int32), tf.TensorSpec([], tf.float32)
        signature = [*self._examples(images, soft), *[integer] * 3, *[real] * 3]
        return tf.function(self._run_steps, signature, autograph=False)

    def _compile_evaluation(self, images: Any, soft: bool) -> Any:
        import tensorflow as tf

        signature = [*self._examples(images, soft), *[tf.TensorSpec([], tf.float32)] * 2]
        return tf.function(self._run_evaluation, signature, autograph=False)

    def _examples(self, images: Any, soft: bool) -> list[Any]:
        """Signature for any number of examples, so that TensorFlow traces once for bags of all sizes."""
        import tensorflow as tf

        architecture = self.program.architecture
        labels = tf.TensorSpec([None], tf.int32)
        targets = tf.TensorSpec([None, architecture.num_classes], tf.float32) if soft else labels
        shape = [None, *architecture.input_shape]
        return [tf.TensorSpec(shape, images), labels, targets, tf.TensorSpec([None], tf.float32)]

    @keras_settings()
    def train(
        self, bag: Bag, plan: TrainingPlan, observe: Observe | None = None, initial: InitialArrays | None = None
    ) -> tuple[list[np.ndarray], dict[str, list[float]]]:
        """Train a member by a plan with this program, from fresh weights and those in `initial`.

        Raises
        ------
        Refusal
            The images are standardized, and all their pixels are alike; or some validation rows are so far from the
            training rows that they cannot be computed.
        Divergence
            A loss or the weights are not finite.

        Returns
        -------
        weights : list of numpy.ndarray
            In the order of `keras.Model.weights`. One more array than this program's network has is the factor of
            `Architecture.scaled`: the images need it.
        history : dict of str to list of float
            Per epoch: loss and accuracy; val_loss and val_accuracy if there are validation rows.
        """
        seed, standardization = plan.member_seed(bag.member), []
        if self.program.architecture.standardization:
            mean, variance = channel_moments(bag.training)
            check_variation(mean, variance, plan.rules.pixels.column, bag.member)
            scaled = self.program.architecture.scaled
            if exceeds_float32(mean, variance) and not scaled:
                architecture = replace(self.program.architecture, scaled=True)
                return trainer_of(replace(self.program, architecture=architecture)).train(bag, plan, observe, initial)
            standardization = standardization_weights(mean, variance, scaled)
        if plan.class_weighting == "balanced":
            bag = replace(bag, training=balanced(bag.training), validation=balanced(bag.validation))
        self._reset(seed, standardization, initial or {})
        rng = np.random.default_rng(seed)
        steps = self._steps(bag.training.images.dtype, bag.training.soft_labels is not None)
        positions = np.repeat(np.arange(len(bag.training), dtype=np.int32), bag.training.copies)
        num_steps = plan.epochs * -(-len(positions) // plan.batch_size)
        step = 0
        history: dict[str, list[float]] = {"loss": [], "accuracy": []}
        best_loss, best_weights, waited = np.inf, None, 0
        for epoch in range(plan.epochs):
            totals: Any = (np.float32(0), np.float32(0))
            seen = 0
            for chunk in _chunks(bag.training, rng.permutation(positions), plan.batch_size):
                totals = steps(*chunk, *map(np.int32, (step, num_steps, seed)), np.float32(plan.learning_rate), *totals)
                step += -(-len(chunk[0]) // plan.batch_size)
                seen += len(chunk[0])
                if observe is not None:
                    observe(step / num_steps, functools.partial(_mean_loss, totals, seen))
            self._record(history, "", totals, len(positions), bag.member, epoch)
            if not len(bag.validation):
                continue
            validated = self._validate(bag.validation)
            if not np.isfinite(validated[0]):
                self._refuse_far_rows(bag, plan)
            self._record(history, "val_", validated, len(bag.validation), bag.member, epoch)
            if history["val_loss"][-1] < best_loss:
                best_loss, waited = history["val_loss"][-1], 0
                best_weights = self.network.get_weights() if plan.early_stopping_patience else None
            else:
                waited += 1
            if plan.early_stopping_patience and waited >= plan.early_stopping_patience:
                break
        weights = best_weights or self.network.get_weights()
        if not all(np.isfinite(array).all() for array in weights):
            raise Divergence(self._diverged(bag.member, "its weights are not finite", len(history["loss"])))
        return weights, history

    def _validate(self, validation: Examples) -> Any:
        evaluate = self._evaluate(validation.images.dtype, validation.soft_labels is not None)
        totals: Any = (np.float32(0), np.float32(0))
        for chunk in _chunks(validation, np.arange(len(validation)), self._validation_batch):
            totals = evaluate(*chunk, *totals)
        return totals

    def _refuse_far_rows(self, bag: Bag, plan: TrainingPlan) -> None:
        """Refuse validation rows for which the network gives no numbers, if it gives some for others."""
        import tensorflow as tf

        validation = bag.validation
        sound = np.ones(len(validation), bool)
        for begin in range(0, len(validation), self._validation_batch):
            index = np.arange(begin, min(begin + self._validation_batch, len(validation)))
            images = tf.cast(validation.gather(index), tf.float32)
            sound[index] = np.isfinite(self.network(images, training=False)).all(axis=1)
        if not sound.any() or sound.all():
            return  # the weights are at fault, or the sum of the losses
        (first, *_), count = np.flatnonzero(~sound), int((~sound).sum())
        largest = np.abs(validation.gather(np.array([first])).astype(np.float64)).max()
        chunks = (chunk[0] for chunk in _chunks(bag.training, np.arange(len(bag.training)), self._validation_batch))
        if largest <= max(np.abs(images.astype(np.float64)).max() for images in chunks):
            return
        raise Refusal(
            f"Member {bag.member} cannot compute {count} of {len(validation)} validation rows; the first one has "
            f"label {validation.labels[first]} and an absolute value of {largest:.6g} in column "
            f"'{plan.rules.pixels.column}': too far from the numbers of the training rows; leave such rows out, or "
            "scale the column."
        )

    def _record(
        self, history: dict[str, list[float]], prefix: str, measured: Any, count: int, member: int, epoch: int
    ) -> None:
        # Divided outside the graph, which rounds differently when it is traced for a fixed number of rows.
        loss, accuracy = (float(total) / count for total in measured)
        if not np.isfinite(loss):
            raise Divergence(self._diverged(member, f"its {prefix}loss is {loss}", epoch + 1))
        history.setdefault(f"{prefix}loss", []).append(loss)
        history.setdefault(f"{prefix}accuracy", []).append(accuracy)

    def _diverged(self, member: int, what: str, epoch: int) -> str:
        standardized = self.program.architecture.standardization
        remedy = "" if standardized else ", or set standardization=True if the features are not scaled"
        return f"Member {member} diverged: {what} in epoch {epoch}; lower learningRate{remedy}."

    def _reset(self, seed: int, standardization: list[np.ndarray], initial: InitialArrays) -> None:
        # Fresh weights come from a copy of the network, not from initializers: this works for any custom network.
        fresh = build_network(self.program.architecture, seed)
        for variable, start in zip(self.network.variables, fresh.variables, strict=True):
            variable.assign(start)
        if standardization:
            self.network.get_layer(STANDARDIZATION).set_weights(standardization)
        for place, array in initial.items():
            self.network.weights[len(standardization) + place].assign(array)
        for variable, value in self._optimizer_start:
            variable.assign(value)

    def _run_steps(
        self,
        images: Any,
        labels: Any,
        targets: Any,
        weights: Any,
        first_step: Any,
        num_steps: Any,
        seed: Any,
        learning_rate: Any,
        total_loss: Any,
        total_right: Any,
    ) -> Any:
        import tensorflow as tf

        program = self.program

        def run_step(span: slice, total_loss: Any, total_right: Any) -> Any:
            step = first_step + span.start // program.batch_size
            batch = images[span]
            if program.random_shift or program.random_flip:
                batch = augment(batch, tf.stack([seed, step]), program.random_shift, program.random_flip)
            with tf.GradientTape() as tape:
                output = self.network(tf.cast(batch, tf.float32), training=True)
                losses = _cross_entropy(targets[span], output) * weights[span]
                loss = with_losses_of_layers(tf.reduce_mean(losses), self.network)
            self._optimizer(tape.gradient(loss, self._trainable), step, learning_rate * self._factor(step, num_steps))
            return total_loss + tf.reduce_sum(losses), total_right + _number_right(labels[span], output)

        return _over_batches(tf.shape(labels)[0], program.batch_size, run_step, (total_loss, total_right))

    def _run_evaluation(
        self, images: Any, labels: Any, targets: Any, weights: Any, total_loss: Any, total_right: Any
    ) -> Any:
        import tensorflow as tf

        def evaluate(span: slice, total_loss: Any, total_right: Any) -> Any:
            output = self.network(tf.cast(images[span], tf.float32), training=False)
            losses = _cross_entropy(targets[span], output) * weights[span]
            return total_loss + tf.reduce_sum(losses), total_right + _number_right(labels[span], output)

        return _over_batches(tf.shape(labels)[0], self._validation_batch, evaluate, (total_loss, total_right))

    def _factor(self, step: Any, num_steps: Any) -> Any:
        """The schedule's factor of the learning rate."""
        import tensorflow as tf

        done = tf.cast(step, tf.float32) / tf.cast(num_steps, tf.float32)
        return {
            "constant": lambda: tf.ones_like(done),
            "linear": lambda: 1.0 - done,
            "cosine": lambda: 0.5 * (1.0 + tf.cos(np.float32(np.pi) * done)),
        }[self.program.learning_rate_schedule]()


def _over_batches(rows: Any, batch_size: int, run: Callable[..., Any], totals: Any) -> Any:
    """The totals after a loop in the graph over slices of `batch_size` rows.

    Written out, since AutoGraph leaves a temporary file per function that it converts, and Spark's workers end without
    removing them.
    """
    import tensorflow as tf

    def body(begin: Any, *totals: Any) -> Any:
        return begin + batch_size, *run(slice(begin, begin + batch_size), *totals)

    return tf.while_loop(lambda begin, *_: begin < rows, body, (tf.constant(0), *totals))[1:]


def _mean_loss(totals: Any, seen: int) -> float:
    return float(totals[0]) / seen


def kept_epoch(history: dict[str, list[float]], plan: TrainingPlan) -> int:
    """The epoch, from 1, whose weights a member has: the first with the lowest validation loss if it may stop early."""
    if plan.early_stopping_patience and "val_loss" in history:
        return int(np.argmin(history["val_loss"])) + 1
    return len(history["loss"])


def _chunks(examples: Examples, order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Images, labels, targets and weights in an order, a few whole batches at a time: a bag on disk stays there.

    Weights are divided by their mean over the order, so that they do not scale the learning rate.
    """
    weights = np.ones(len(examples), np.float32)
    if examples.weights is not None and len(examples):
        times = np.bincount(order, minlength=len(examples))  # so that the sum is the same however the order is shuffled
        mean = max((examples.weights * times.astype(np.float64)).sum() / len(order), np.finfo(np.float32).tiny)
        weights = (examples.weights / mean).astype(np.float32)
    step = _rows_at_once(examples.images, batch_size)
    for begin in range(0, len(order), step):
        index = order[begin : begin + step]
        yield examples.gather(index), examples.labels[index], examples.targets[index], weights[index]


def _rows_at_once(images: np.ndarray, batch_size: int) -> int:
    return batch_size * max(1, CHUNK_BYTES // (batch_size * images.itemsize * math.prod(images.shape[1:])))


def _cross_entropy(target: Any, output: Any) -> Any:
    import keras

    if target.shape.rank == 2:
        return keras.losses.categorical_crossentropy(target, output)
    return keras.losses.sparse_categorical_crossentropy(target, output)


def _number_right(target: Any, output: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(tf.equal(tf.argmax(output, axis=-1, output_type=tf.int32), target), tf.float32))
