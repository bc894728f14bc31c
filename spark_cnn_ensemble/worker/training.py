"""A partition of rows -> a trained member.

`train_members` is what Spark runs, one task a member. A process builds and traces the network once and resets its
weights for each further member. TensorFlow is imported inside functions.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from spark_cnn_ensemble.worker.augmentation import augment
from spark_cnn_ensemble.worker.bag import Bag, Examples, collect_bag
from spark_cnn_ensemble.worker.member import (
    TrainingPlan,
    digest,
    load_tensorflow_in_task,
    pack_weights,
    split_weights,
)
from spark_cnn_ensemble.worker.network import build_network
from spark_cnn_ensemble.worker.optimizers import FusedAdam, KerasOptimizer, compute_in_bfloat16
from spark_cnn_ensemble.worker.refusal import Refusal

# The weights of a member in parts of `PART_BYTES`; its report, as JSON, comes with part 0.
TRAINED_SCHEMA = "member int, part int, bytes binary, report string"

_VALIDATION_BATCH = 500


def train_members(frames: Iterable[pd.DataFrame], plan: TrainingPlan) -> Iterator[pd.DataFrame]:
    """Train the member whose bag is this partition; the partition's number is the member's.

    Parameters
    ----------
    frames : iterable of pandas.DataFrame
        Columns `BAG_COLUMNS`.
    plan : TrainingPlan

    Yields
    ------
    pandas.DataFrame
        Columns of `TRAINED_SCHEMA`.
    """
    from pyspark import TaskContext

    task = TaskContext.get()
    assert task is not None
    bag = collect_bag(frames, task.partitionId(), plan.pixels, plan.skip_invalid)
    yield train_member(bag, plan)


def train_member(bag: Bag, plan: TrainingPlan) -> pd.DataFrame:
    """Train one member; the rows of `TRAINED_SCHEMA` that hold it.

    Raises
    ------
    Refusal
        There is nothing to validate on though the plan needs it, or the member diverged.
    """
    _check_validation(bag.validation, plan)
    load_tensorflow_in_task()
    started = time.perf_counter()
    weights, history = _trainer(plan).train(bag)
    data = pack_weights(weights)
    report = {
        "member": bag.member,
        "rows": len(bag.training),
        "examples": int(bag.training.copies.sum()),
        "validationRows": len(bag.validation),
        "skippedRows": bag.skipped,
        "classCounts": np.bincount(bag.training.labels, minlength=plan.architecture.num_classes).tolist(),
        "seconds": round(time.perf_counter() - started, 3),
        "history": history,
        "size": len(data),
        "sha256": digest(data),
    }
    parts = split_weights(data)
    return pd.DataFrame(
        {
            "member": np.int32(bag.member),
            "part": np.arange(len(parts), dtype=np.int32),
            "bytes": parts,
            "report": [json.dumps(report), *[None] * (len(parts) - 1)],
        }
    )


def _check_validation(validation: Examples, plan: TrainingPlan) -> None:
    usable = len(validation) if validation.weights is None else validation.weights.sum()
    if plan.early_stopping_patience and not usable:
        raise Refusal(
            "The 'earlyStoppingPatience' parameter needs rows to validate on, but no row of weight > 0 is marked in "
            "the column of 'validationIndicatorCol'; mark some, or set earlyStoppingPatience=0."
        )


@functools.lru_cache(maxsize=2)
def _trainer(plan: TrainingPlan) -> Trainer:
    return Trainer(plan)


class Trainer:
    """A network with its compiled epoch, ready to train any number of members of one plan, one after the other."""

    def __init__(self, plan: TrainingPlan) -> None:

        self.plan = plan
        self.network = build_network(plan.architecture)
        if plan.precision == "bfloat16":
            compute_in_bfloat16(self.network)
        variables = self.network.trainable_variables
        self._trainable = [variable.value for variable in variables]
        fused = plan.optimizer == "adam"
        self._step: Any = (
            FusedAdam(self._trainable) if fused else KerasOptimizer(variables, plan.optimizer, plan.learning_rate)
        )
        self._reset_step = [(variable, variable.numpy()) for variable in self._step.state]
        self._epoch = functools.cache(self._compile_epoch)
        self._evaluate = functools.cache(self._compile_evaluation)

    def _compile_epoch(self, images: Any) -> Any:
        import tensorflow as tf

        whole = tf.TensorSpec([], tf.int32)
        return tf.function(self._run_epoch, [*self._examples(images), tf.TensorSpec([None], tf.int32), *[whole] * 3])

    def _compile_evaluation(self, images: Any) -> Any:
        import tensorflow as tf

        return tf.function(self._run_evaluation, self._examples(images))

    def _examples(self, images: Any) -> list[Any]:
        """Any number of examples: told beforehand, so that no bag's size makes TensorFlow trace again."""
        import tensorflow as tf

        shape = [None, *self.plan.architecture.input_shape]
        return [tf.TensorSpec(shape, images), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.float32)]

    def train(self, bag: Bag) -> tuple[list[np.ndarray], dict[str, list[float]]]:
        """Train a member from fresh weights.

        Returns
        -------
        weights : list of numpy.ndarray
            In the order of `keras.Model.weights`.
        history : dict of str to list of float
            Per epoch: loss, accuracy, and val_loss, val_accuracy where there are validation rows.
        """
        import tensorflow as tf

        plan = self.plan
        seed = plan.member_seed(bag.member)
        self._reset(seed, bag.training)
        rng = np.random.default_rng(seed)
        training, validation = _tensors(bag.training), _tensors(bag.validation)
        run_epoch, evaluate = self._epoch(training[0].dtype), self._evaluate(training[0].dtype)
        positions = np.repeat(np.arange(len(bag.training), dtype=np.int32), bag.training.copies)
        steps = -(-len(positions) // plan.batch_size)
        history: dict[str, list[float]] = {"loss": [], "accuracy": []}
        best_loss, best_weights, waited = np.inf, None, 0
        for epoch in range(plan.epochs):
            order = tf.constant(rng.permutation(positions))
            first, last = tf.constant(epoch * steps), tf.constant(plan.epochs * steps)
            measured = run_epoch(*training, order, first, last, tf.constant(seed))
            self._record(history, "", measured, len(positions), bag.member, epoch)
            if not len(bag.validation):
                continue
            measured = evaluate(*validation)
            self._record(history, "val_", measured, len(bag.validation), bag.member, epoch)
            if history["val_loss"][-1] < best_loss:
                best_loss, waited = history["val_loss"][-1], 0
                best_weights = self.network.get_weights() if plan.early_stopping_patience else None
            else:
                waited += 1
            if plan.early_stopping_patience and waited >= plan.early_stopping_patience:
                break
        return best_weights or self.network.get_weights(), history

    def _record(
        self, history: dict[str, list[float]], prefix: str, measured: Any, count: int, member: int, epoch: int
    ) -> None:
        # Divided here: the graph would round by whether it was traced for this number of rows or for any.
        loss, accuracy = (float(total) / count for total in measured)
        if not np.isfinite(loss):
            raise Refusal(
                f"Member {member} diverged: its {prefix}loss is {loss} in epoch {epoch + 1}; lower learningRate, or "
                "set standardization=True if the features are not scaled."
            )
        history.setdefault(f"{prefix}loss", []).append(loss)
        history.setdefault(f"{prefix}accuracy", []).append(accuracy)

    def _reset(self, seed: int, training: Examples) -> None:
        import keras

        # A fresh copy, not the initializers, says what the weights begin with: it holds for any custom network.
        keras.utils.set_random_seed(seed)
        fresh = build_network(self.plan.architecture)
        for variable, start in zip(self.network.variables, fresh.variables, strict=True):
            variable.assign(start)
        if self.plan.architecture.standardization:
            self.network.get_layer("standardization").set_weights(_mean_and_variance(training.images))
        for variable, value in self._reset_step:
            variable.assign(value)

    def _run_epoch(
        self, images: Any, labels: Any, weights: Any, order: Any, first_step: Any, last_step: Any, seed: Any
    ) -> Any:
        import tensorflow as tf

        plan = self.plan
        count = tf.shape(order)[0]
        total_loss, total_right = 0.0, 0.0
        for begin in tf.range(0, count, plan.batch_size):
            index = order[begin : begin + plan.batch_size]
            step = first_step + begin // plan.batch_size
            batch = tf.gather(images, index)
            if plan.random_shift or plan.random_flip:
                batch = augment(batch, tf.stack([seed, step]), plan.random_shift, plan.random_flip)
            target = tf.gather(labels, index)
            with tf.GradientTape() as tape:
                output = self.network(tf.cast(batch, tf.float32), training=True)
                losses = _cross_entropy(target, output) * tf.gather(weights, index)
                loss = tf.reduce_mean(losses)
                if self.network.losses:
                    loss += tf.add_n(self.network.losses)
            self._step(tape.gradient(loss, self._trainable), step, self._rate(step, last_step))
            total_loss += tf.reduce_sum(losses)
            total_right += _number_right(target, output)
        return total_loss, total_right

    def _run_evaluation(self, images: Any, labels: Any, weights: Any) -> Any:
        import tensorflow as tf

        count = tf.shape(labels)[0]
        total_loss, total_right = 0.0, 0.0
        for begin in tf.range(0, count, _VALIDATION_BATCH):
            span = slice(begin, begin + _VALIDATION_BATCH)
            output = self.network(tf.cast(images[span], tf.float32), training=False)
            total_loss += tf.reduce_sum(_cross_entropy(labels[span], output) * weights[span])
            total_right += _number_right(labels[span], output)
        return total_loss, total_right

    def _rate(self, step: Any, last_step: Any) -> Any:
        import tensorflow as tf

        done = tf.cast(step, tf.float32) / tf.cast(last_step, tf.float32)
        factor = {
            "constant": lambda: tf.ones_like(done),
            "linear": lambda: 1.0 - done,
            "cosine": lambda: 0.5 * (1.0 + tf.cos(np.float32(np.pi) * done)),
        }[self.plan.learning_rate_schedule]()
        return np.float32(self.plan.learning_rate) * factor


def _tensors(examples: Examples) -> tuple[Any, Any, Any]:
    """Images, labels and weights; weights are divided by their mean, so that they do not scale the learning rate."""
    import tensorflow as tf

    weights = np.ones(len(examples), np.float32) if examples.weights is None else examples.weights
    mean = max(weights.mean(dtype=np.float64), np.finfo(np.float32).tiny) if len(weights) else 1.0
    return tf.constant(examples.images), tf.constant(examples.labels), tf.constant(weights / mean, tf.float32)


def _cross_entropy(target: Any, output: Any) -> Any:
    import keras

    return keras.losses.sparse_categorical_crossentropy(target, output)


def _number_right(target: Any, output: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.cast(tf.equal(tf.argmax(output, axis=-1, output_type=tf.int32), target), tf.float32))


def _mean_and_variance(images: np.ndarray) -> list[np.ndarray]:
    """Mean and variance of each channel; variance 1 where a channel is constant."""
    channels = images.shape[-1]
    if images.dtype == np.uint8:  # by counting: exact, and a few rows at a time, as bincount makes 8 bytes of each
        values = np.arange(256, dtype=np.float64)
        counts = np.zeros((channels, 256), np.int64)
        step = max(1, (1 << 20) // images[0].size)
        for begin in range(0, len(images), step):
            for channel in range(channels):
                counts[channel] += np.bincount(images[begin : begin + step, ..., channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum(axis=1)
        variance = counts @ values**2 / counts.sum(axis=1) - mean**2
    else:
        mean = images.mean(axis=(0, 1, 2), dtype=np.float64)
        variance = images.var(axis=(0, 1, 2), dtype=np.float64)
    return [mean.astype(np.float32), np.where(variance > 1e-12, variance, 1.0).astype(np.float32)]
