"""The one import of alibi_detect: only the detector, without the rest of the library where that works.

``import alibi_detect.cd`` loads every detector, and with them numba and transformers. TabularDrift needs none of
them. So while its module is imported, empty packages stand where alibi_detect's own ``__init__`` files would run;
afterwards they are gone, and a later plain import of alibi_detect finds nothing of it.
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
PACKAGES = (ROOT, f"{ROOT}.cd", f"{ROOT}.utils")


@dataclass(frozen=True, kw_only=True, slots=True)
class Library:
    """What Engine uses of alibi_detect: the class TabularDrift and the function fdr."""

    tabular_drift: Any
    fdr: Any


@cache
def library() -> Library:
    """Load it; 1.5 s alone, and 3 to 14 s where the short way fails and the whole library is loaded.

    Raises:
        PluginFailed: when alibi-detect is not installed or does not load.
    """
    spec = None if ROOT in sys.modules else importlib.util.find_spec(ROOT)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    if ROOT not in sys.modules and not folders:
        hint = 'install it: pip install "mlops-engine[alibi]", or use the detectors ks and chi2'
        raise PluginFailed("alibi-detect is not installed", hint=hint, key="uses")
    with quiet():
        try:
            with bypassed(folders):
                return imported()
        except (ImportError, AttributeError, NameError, TypeError, ValueError):
            return whole()


def whole() -> Library:
    """The same by the plain import.

    Raises:
        PluginFailed: when alibi-detect does not load.
    """
    try:
        return imported()
    except (ImportError, AttributeError) as error:
        hint = "see `pip check`, or use the detectors ks and chi2"
        raise PluginFailed(f"alibi-detect does not load: {error}", hint=hint, key="uses") from error


def imported() -> Library:
    """The two names, from wherever their modules are found now."""
    tabular = importlib.import_module(f"{ROOT}.cd.tabular")
    tests = importlib.import_module(f"{ROOT}.utils.statstest")
    return Library(tabular_drift=tabular.TabularDrift, fdr=tests.fdr)


@contextlib.contextmanager
def bypassed(folders: Sequence[str]) -> Iterator[None]:
    """Inside, alibi_detect's packages are empty ones that know their folder; afterwards all is as before.

    Where the library is loaded already, nothing is bypassed.
    """
    if not folders:
        yield
        return
    sys.modules.update({name: empty_package(name, folders) for name in PACKAGES})
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == ROOT]:
            del sys.modules[name]


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
