"""The MLflow model, from code: this file is what MLflow stores and runs, the weights travel as a bundle beside it."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd


class DemeanorModel(mlflow.pyfunc.PythonModel):
    """Answers for raw rows: text, audio and video, any of them missing; see demeanor.data.raw_rows.COLUMNS.

    The bundle of a representation answers with embeddings, that of a trained system with predictions. A row may name
    files of the folder DEMEANOR_MEDIA_ROOT alone, and none where that is not set. No row that a caller sends makes it
    raise: what is wrong with it is in the row's `problem`.

    MLflow's `params`: `explain` adds the contributions of the modalities (demeanor.inference.explanation); a model that
    cannot say (trained without leaving modalities out) declines with the reason, unless `explain_anyway`.
    """

    def load_context(self, context: Any) -> None:
        """Load the bundle beside this file and, where it reads recordings, answer once: extractors are ready then."""
        from demeanor.data.cells import Reach
        from demeanor.inference.model import TrainedModel
        from demeanor.serving.mlflow_server import mend_requests
        from demeanor.serving.warming import first_rows

        self.model = TrainedModel.load(context.artifacts["bundle"], reach=Reach.of_server())
        if self.model.card.recomputable:
            self.model.score(first_rows())
        mend_requests()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer to raw rows, one per row; MLflow calls it. `params`: `explain`, `explain_anyway`."""
        from demeanor.inference.describe import without_nan
        from demeanor.serving.mlflow_server import known_columns

        asked = params or {}
        anyway = bool(asked.get("explain_anyway"))
        explained = anyway or bool(asked.get("explain"))
        if explained and not anyway:
            self._decline_unseen()
        return without_nan(self.model.score(known_columns(model_input), explained, anyway))

    def _decline_unseen(self) -> None:
        """A refusal that MLflow's server answers with 400 and its reason."""
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        from demeanor.data.errors import InputError
        from demeanor.inference.explanation import refuse_unseen_subsets

        try:
            refuse_unseen_subsets(self.model.card)
        except InputError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from error


mlflow.models.set_model(DemeanorModel())
