"""What MLflow runs to load a registered student: code over safetensors, nothing is unpickled.

MLflow copies this file into the model (models-from-code) and executes it when the model is loaded,
so it stands alone: it needs kdsweep to be installed, no more.
"""

from typing import Any

from mlflow.models import set_model
from mlflow.pyfunc import PythonModel


class Student(PythonModel):
    """A student network behind MLflow's generic interface.

    Attributes:
        module: The network in eval mode, once it is loaded.
    """

    # MLflow looks at the type hints of `predict` for a schema and warns where it finds none; the
    # input is a batch of the task, which no schema describes.
    _skip_type_hint_validation = True

    def load_context(self, context: Any) -> None:
        """Loads the network from the files that MLflow fetched."""
        from kdsweep.engine import load_student

        self.module = load_student(context.artifacts["student"])

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """Runs the network on one batch of its task.

        Args:
            context: Unused.
            model_input: A batch as the task's `collate` makes it, for example `LidarSegBatch`.
            params: Unused.

        Returns:
            The network's taps as numpy arrays, by name.
        """
        import torch

        with torch.inference_mode():
            taps = self.module(model_input)
        return {name: tap.float().cpu().numpy() for name, tap in taps.items()}


set_model(Student())
