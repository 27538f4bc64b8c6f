"""The MLflow model, from code: this file is what MLflow stores and runs, the weights travel as a bundle beside it."""

from __future__ import annotations

from typing import Any

import mlflow
import pandas as pd


class DemeanorModel(mlflow.pyfunc.PythonModel):
    """Answers for raw rows: text, audio and video, any of them missing; see demeanor.serving.recordings.COLUMNS.

    The bundle of a representation answers with embeddings, that of a trained system with predictions.
    """

    def load_context(self, context: Any) -> None:
        from demeanor.data.bundle import Bundle
        from demeanor.serving.embedder import Embedder
        from demeanor.serving.predictor import Predictor

        bundle = Bundle.load(context.artifacts["bundle"])
        self.predictor = Embedder(bundle) if bundle.card.embeds else Predictor(bundle)

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return self.predictor.predict(model_input)


mlflow.models.set_model(DemeanorModel())
