"""A board to draw points of several classes on, with mouse, finger or keyboard. It tells "points" after each stroke."""

from pathlib import Path

from ..component import Component

__all__ = ["drawing_board"]

drawing_board = Component(Path(__file__).parent)
