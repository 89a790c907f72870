"""Engine: one YAML spec says where the data is, how a model is trained, judged, served and watched.

``import engine`` costs nothing: what is named here is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.api import Run as Run
    from engine.api import load_model as load_model
    from engine.api import plan as plan
    from engine.api import run as run

__version__ = "0.1.0"
__all__ = ["Run", "__version__", "load_model", "plan", "run"]


class Package(ModuleType):
    """This package. ``engine.plan`` is the function of the API, although a subpackage has the same name."""

    def __getattr__(self, name: str) -> object:
        if name in __all__:
            return getattr(importlib.import_module("engine.api"), name)
        raise AttributeError(f"module 'engine' has no attribute {name!r}")

    @property
    def plan(self) -> object:
        """:func:`engine.api.plan`."""
        return importlib.import_module("engine.api").plan

    @plan.setter
    def plan(self, subpackage: ModuleType) -> None:
        """The import system offers the subpackage ``engine.plan`` here; it stays in ``sys.modules``."""


sys.modules[__name__].__class__ = Package
