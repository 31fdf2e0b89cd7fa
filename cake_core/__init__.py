"""CAKE Lab's engine: copy a classifier without its data, and see how well it went.

>>> import cake_core                                                           # doctest: +SKIP
>>> for snapshot in cake_core.synthesize(teacher, shape=(1, 28, 28), classes=10):  # doctest: +SKIP
...     print(snapshot.step)
>>> cake_core.distill("mnist/lenet5", data="mnist").metrics                    # doctest: +SKIP
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["CakeError", "distill", "synthesize"]

# Imported on first use, so that `import cake_core` and the command line's --help do not wait for torch.
_PLACES = {"CakeError": "errors", "distill": "pipeline", "synthesize": "synthesis"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f".{_PLACES[name]}", __name__), name)
