"""What MLflow loads and serves: the merged folder, by ``transformers`` alone.

MLflow keeps a copy of this file with the model (its "models from code"), so nothing is pickled and
this project is not needed where it is served.
"""

import mlflow
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from pydantic import BaseModel


class Answer(BaseModel):
    """A class and its probability."""

    label: str
    probability: float


class TextClassifier(PythonModel):
    """Classes of texts, as ``lora-replication predict`` names them."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the folder ``classifier``."""
        from transformers import pipeline

        folder = context.artifacts["classifier"]
        self.classify = pipeline("text-classification", folder, device="cpu")

    def predict(self, model_input: list[str]) -> list[Answer]:  # type: ignore[override]
        """One for each text."""
        found = self.classify(list(model_input), truncation=True)
        return [Answer(label=each["label"], probability=each["score"]) for each in found]


mlflow.models.set_model(TextClassifier())
