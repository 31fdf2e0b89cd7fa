"""All methods, by name. A new file in this folder is a new method; nothing else needs to know."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from ..errors import CakeError
from .base import Method, MethodConfig

__all__ = ["METHODS", "Method", "MethodConfig", "find"]


def _discover() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module_info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{module_info.name}")
        for cls in vars(module).values():
            own = inspect.isclass(cls) and issubclass(cls, Method) and cls.__module__ == module.__name__
            if own and not inspect.isabstract(cls):
                found[cls.name] = cls
    # Methods first, controls last; within these by name.
    return dict(sorted(found.items(), key=lambda item: (item[1].control, item[0])))


METHODS: dict[str, type[Method]] = _discover()


def find(name: str) -> type[Method]:
    """The method of that name.

    Raises:
        CakeError: there is none.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise CakeError(f"There is no method '{name}'. Choose one of: {', '.join(METHODS)}.")
    return METHODS[name]
