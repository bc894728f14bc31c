"""`CNNEnsembleTrainingSummary`: the record of a fit that users see.

The record itself is in `fit_result`; `report` makes the page. Called by the estimator and the model.
"""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from dataclasses import dataclass

from spark_cnn_ensemble.checked import shortened
from spark_cnn_ensemble.evaluation import CNNEnsembleEvaluation
from spark_cnn_ensemble.fit_result import FitResult
from spark_cnn_ensemble.report import write_report
from spark_cnn_ensemble.worker.runtime import load_tensorflow


@dataclass(frozen=True)
class CNNEnsembleTrainingSummary(FitResult):
    """The record of a fit, with ways to show it; ``model.summary`` gives it.

    Attributes
    ----------
    members : tuple of MemberSummary
        How each member was trained.
    rows : int
        Rows read, including those that were left out.
    skippedRows : int
        Unusable rows that were left out (handleInvalid="skip").
    seconds : float
        Wall time of the fit.
    unusedRows : int
        Rows that are in no bag.
    resumedMembers : tuple of int
        Members that were found in checkpointDir and not trained again.
    missingMembers : dict of int to str
        For each member that was left out because it diverged (see minMembers), the reason.
    outOfBag : OutOfBag or None
        The votes on the out-of-bag sample; None if no sample was drawn, or no row can be out-of-bag.
    initialLayers : tuple of InitialLayers
        What members took from initialModel, one entry per group of members that took the same; empty without it.

    Examples
    --------
    >>> summary = model.summary
    >>> len(summary.members), summary.rows
    (3, 1437)
    >>> list(summary.memberTable.columns)[:3]
    ['rows', 'examples', 'validationRows']
    >>> summary.epochTable[["member", "epoch"]].tail(1).values.tolist()
    [[2, 4]]
    >>> summary.objectiveHistory[-1] < summary.objectiveHistory[0]
    True
    >>> summary.to_html(f"{folder}/report.html")
    """

    def to_html(
        self,
        path: str | os.PathLike[str],
        evaluation: CNNEnsembleEvaluation | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """Write a report of this fit: one HTML page with tables and plots.

        Needs matplotlib: ``pip install 'spark-cnn-ensemble[plots]'``.

        Parameters
        ----------
        path : str or pathlib.Path
            A local file, which is replaced if it exists.
        evaluation : CNNEnsembleEvaluation, optional
            The result of ``model.evaluate`` on held-out rows, to show as well.
        class_names : sequence of str, optional
            One name per class; default: the model's names of the classes, else their indices.

        Raises
        ------
        FileNotFoundError
            The file's folder does not exist.
        OSError
            The file cannot be written.
        """
        write_report(self, path, evaluation=evaluation, class_names=class_names)

    def to_tensorboard(self, folder: str | os.PathLike[str]) -> None:
        """Write the members' losses and accuracies per epoch as TensorBoard event files, one run per member.

        Parameters
        ----------
        folder : str or pathlib.Path
            A local folder, or any that TensorFlow can write to.

        Raises
        ------
        OSError
            TensorFlow cannot write to the folder.
        """
        tf = load_tensorflow()
        kind = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "scalars"})
        try:
            for member in self.members:
                with tf.summary.create_file_writer(f"{folder}/member_{member.member}").as_default():
                    for name, curve in member.history.items():
                        for epoch, value in enumerate(curve):
                            tf.summary.write(name, tf.constant(value, tf.float32), step=epoch + 1, metadata=kind)
        except tf.errors.OpError as error:
            raise OSError(
                f"TensorFlow cannot write to {folder} ({shortened(error.message, 200)}); choose another folder."
            ) from None

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in self.facts()
        )
        return f"<table>{rows}</table>{self.memberTable.to_html(float_format='{:.4g}'.format)}"
