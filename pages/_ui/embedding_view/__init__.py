"""The map of feature space as a Streamlit component: hover shows the input, a lasso selects."""

from pathlib import Path

from ..component import Component

__all__ = ["embedding_view"]

embedding_view = Component(Path(__file__).parent)
