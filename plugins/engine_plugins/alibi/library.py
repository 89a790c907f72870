"""The one import of alibi_detect: only the detector that is asked for, without the rest where that works.

``import alibi_detect.cd`` loads every detector, and with them numba and transformers. No detector of Engine's needs
them all. So while a module is imported, empty packages stand where alibi_detect's own ``__init__`` files would run;
afterwards they are gone, and a later plain import of alibi_detect finds nothing of it. What was loaded is kept aside,
so that two detectors have their common modules once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.plugins import PluginFailed

ROOT = "alibi_detect"
PACKAGES = (ROOT, *(f"{ROOT}.{name}" for name in ("cd", "cd.pytorch", "cd.sklearn", "od", "utils")))
INSTEAD = 'install it: pip install "mlops-engine[alibi]", or use the detectors ks and chi2'
TORCH = 'install it: pip install "mlops-engine[torch]", or use alibi.ClassifierDrift, which needs scikit-learn alone'
ASIDE: dict[str, ModuleType] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """What the tests of one feature at a time use of alibi_detect: the class TabularDrift and the function fdr."""

    tabular_drift: Any
    fdr: Any


def library() -> Library:
    """TabularDrift and fdr.

    Raises:
        PluginFailed: when alibi-detect is not installed or does not load.
    """
    return Library(tabular_drift=part("cd.tabular", "TabularDrift"), fdr=part("utils.statstest", "fdr"))


def with_torch(module: str, name: str) -> Any:
    """The same as :func:`part`, of a module that needs PyTorch.

    Raises:
        PluginFailed: when PyTorch is not installed, too.
    """
    if importlib.util.find_spec("torch") is None:
        fact = f"{name.removesuffix('Torch')} needs PyTorch, which is not installed"
        raise PluginFailed(fact, hint=TORCH, key="uses")
    return part(module, name)


@cache
def part(module: str, name: str) -> Any:
    """A class or function of ``alibi_detect.module``: 1 to 1.5 s the short way, 3 to 14 s where the whole is loaded.

    Raises:
        PluginFailed: when alibi-detect is not installed or does not load.
    """
    spec = None if ROOT in sys.modules else importlib.util.find_spec(ROOT)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if ROOT not in sys.modules and not folders:
        raise PluginFailed("alibi-detect is not installed", hint=INSTEAD, key="uses")
    with quiet():
        try:
            with bypassed(folders):
                return getattr(importlib.import_module(f"{ROOT}.{module}"), name)
        except (ImportError, AttributeError, NameError, TypeError, ValueError):
            return of_whole(module, name)


def of_whole(module: str, name: str) -> Any:
    """The same by the plain import.

    Raises:
        PluginFailed: when alibi-detect does not load.
    """
    try:
        return getattr(importlib.import_module(f"{ROOT}.{module}"), name)
    except (ImportError, AttributeError) as error:
        hint = "see `pip check`, or use the detectors ks and chi2"
        raise PluginFailed(f"alibi-detect does not load: {error}", hint=hint, key="uses") from error


@contextlib.contextmanager
def bypassed(folders: Sequence[str]) -> Iterator[None]:
    """Inside, alibi_detect's packages are empty ones that know their folder; afterwards all is as before.

    Where the library is loaded already, nothing is bypassed.
    """
    if not folders:
        yield
        return
    sys.modules.update({name: empty_package(name, folders) for name in PACKAGES} | ASIDE)
    try:
        yield
        ASIDE.update({name: sys.modules[name] for name in ours()})
    finally:
        for name in ours():
            del sys.modules[name]


@contextlib.contextmanager
def at_work() -> Iterator[None]:
    """Inside, what was loaded the short way is among the modules, and nothing warns.

    Code of alibi's that numba compiled before names its module, which would be imported again with all of the library.
    """
    with quiet():
        if ROOT in sys.modules or not ASIDE:
            yield
            return
        sys.modules.update(ASIDE)
        try:
            yield
        finally:
            for name in ours():
                del sys.modules[name]


def ours() -> list[str]:
    """The modules of alibi_detect that are loaded."""
    return [name for name in sys.modules if name.partition(".")[0] == ROOT]


def empty_package(name: str, folders: Sequence[str]) -> ModuleType:
    """A package without content, in the folders that its real one has below those of alibi_detect."""
    package = ModuleType(name)
    package.__path__ = [str(Path(folder).joinpath(*name.split(".")[1:])) for folder in folders]
    return package


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside, nothing says that PyTorch and TensorFlow are not there, nor that a future version differs."""
    before = os.environ.get("TRANSFORMERS_NO_ADVISORY_WARNINGS")
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        if before is None:
            os.environ.pop("TRANSFORMERS_NO_ADVISORY_WARNINGS", None)
        else:
            os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = before
