"""Engine: one YAML spec says where the data is, how a model is trained, judged, served and watched.

``import engine`` costs nothing: what is named here is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Run as Run
    from engine.api import load_model as load_model
    from engine.api import plan as plan
    from engine.api import run as run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "load_model", "plan", "run"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from engine import api

        return getattr(api, name)
    raise AttributeError(f"module 'engine' has no attribute {name!r}")
