"""Watches for touches and keys, for a stand: it tells "next", "taken" and "idle"."""

from pathlib import Path

from ..component import Component

__all__ = ["kiosk_watch"]

kiosk_watch = Component(Path(__file__).parent)
