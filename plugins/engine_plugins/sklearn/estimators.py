"""The estimator that a spec names: found, built, seeded; and everything else refused before it is imported."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import itertools
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sklearn.base import BaseEstimator, is_classifier, is_regressor

from engine.errors import nearest, suggestion
from engine.plugins import PluginFailed, TrainingTask, source_of

# Top-level packages, and the distributions that bring them.
LIBRARIES: Mapping[str, str] = {"sklearn": "scikit-learn", "xgboost": "xgboost", "lightgbm": "lightgbm"}
NO_PROBABILITIES: Mapping[str, str] = {
    "SVC": "set `probability: true` under params",
    "NuSVC": "set `probability: true` under params",
    "SGDClassifier": "set `loss: log_loss` under params",
}
ESTIMATOR_KEYS = frozenset({"estimator", "params"})


def build(name: str, params: Mapping[str, object], key: str = "with") -> BaseEstimator:
    """The estimator ``name`` with ``params``.

    A parameter that is itself an estimator is written as ``{estimator: NAME, params: {...}}``, alone or in a list.

    Raises:
        PluginFailed: for a name that is no estimator, and for parameters that it does not have.
    """
    kind = find(name, f"{key}.estimator")
    inner = {name: value for name, value in params.items() if "__" in name}
    own = {name: value for name, value in params.items() if "__" not in name}
    require_parameters(kind, own, f"{key}.params")
    values = {name: built(value, f"{key}.params.{name}") for name, value in own.items()}
    try:
        return kind(**values).set_params(**inner)
    except (TypeError, ValueError) as error:
        raise PluginFailed(f"{kind.__name__}: {first_line(error)}", hint=see(kind), key=f"{key}.params") from error


def built(value: object, key: str) -> object:
    """A parameter's value, with the estimators that it describes in their places."""
    if isinstance(value, Mapping) and "estimator" in value and set(value) <= ESTIMATOR_KEYS:
        return build(str(value["estimator"]), value.get("params") or {}, key)
    if isinstance(value, list):
        return [built(item, f"{key}.{index}") for index, item in enumerate(value)]
    return value


def find(name: str, key: str) -> type[BaseEstimator]:
    """The class that ``name`` names: ``sklearn.ensemble.RandomForestClassifier``, or ``module:Class`` of the project.

    Raises:
        PluginFailed: when it is neither, before anything of it is imported; when it is not there; when it is no
            estimator.
    """
    module, attribute = split(name, key)
    require_allowed(name, module, key)
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise not_importable(name, module, error, key) from error
    if found is None:
        raise PluginFailed(f'no estimator "{name}"', hint=near_estimator(name, attribute), key=key)
    if not (inspect.isclass(found) and issubclass(found, BaseEstimator)):
        hint = "name a subclass of sklearn.base.BaseEstimator"
        raise PluginFailed(f'"{name}" is not an estimator', hint=hint, key=key)
    return found


def split(name: str, key: str) -> tuple[str, str]:
    """Module and class.

    Raises:
        PluginFailed: when ``name`` has no module.
    """
    module, _, attribute = name.partition(":") if ":" in name else name.rpartition(".")
    if not module or not attribute:
        raise PluginFailed(f'"{name}" does not say where the estimator is', hint=near_estimator(name, name), key=key)
    return module, attribute


def require_allowed(name: str, module: str, key: str) -> None:
    """Refuse what is neither of a listed library nor of the project, by its name and its file alone.

    Raises:
        PluginFailed: when it is refused.
    """
    top = module.split(".")[0]
    if top in LIBRARIES or (":" in name and is_project(module, top)):
        return
    fact = f'"{name}" is not of {", ".join(list(LIBRARIES)[:-1])} or {list(LIBRARIES)[-1]}'
    hint = "an estimator of the project's own is written `module:Class` and is a subclass of sklearn.base.BaseEstimator"
    raise PluginFailed(fact, hint=hint, key=key)


def is_project(module: str, top: str) -> bool:
    """Whether a module's source lies outside Python's own library and the installed packages."""
    if top in sys.stdlib_module_names:
        return False
    path = source_of(module)
    installed = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return path is not None and not any(path.resolve().is_relative_to(Path(root).resolve()) for root in installed)


def not_importable(name: str, module: str, error: ImportError, key: str) -> PluginFailed:
    """The error for an estimator whose module does not load."""
    top = module.split(".")[0]
    if top in LIBRARIES and getattr(error, "name", None) == top:
        hint = f"install it: pip install {LIBRARIES[top]}"
        return PluginFailed(f"{LIBRARIES[top]} is not installed", hint=hint, key=key)
    if getattr(error, "name", None) == module:
        return PluginFailed(f'no estimator "{name}"', hint=near_estimator(name, name.rpartition(".")[2]), key=key)
    return PluginFailed(f"cannot import {module}: {error}", hint="mend the import", key=key)


def near_estimator(name: str, attribute: str) -> str:
    """The nearest estimator of scikit-learn: by its class name, first in the module named, then by its whole name."""
    known = dict(public_estimators())
    beside = [title for title, whole in known.items() if whole == f"{name.rpartition('.')[0]}.{title}"]
    close = nearest(attribute, beside) or nearest(attribute, known)
    if close is not None:
        return f'did you mean "{known[close]}"?'
    return suggestion(name, known.values(), most=3)


def public_estimators() -> Iterator[tuple[str, str]]:
    """Class name and public dotted name of every classifier and regressor of scikit-learn."""
    from sklearn.utils import all_estimators

    for name, kind in all_estimators(type_filter=["classifier", "regressor"]):
        yield name, public_name(kind)


def require_parameters(kind: type[BaseEstimator], params: Mapping[str, object], key: str) -> None:
    """Refuse parameters that the class does not take.

    Raises:
        PluginFailed: for the first of them, with the nearest that it takes.
    """
    taken = inspect.signature(kind).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in taken.values()):
        return
    for name in params:
        if name not in taken:
            fact = f'{kind.__name__} has no parameter "{name}"'
            raise PluginFailed(fact, hint=suggestion(name, taken), key=f"{key}.{name}")


def prepared(estimator: BaseEstimator, task: TrainingTask) -> BaseEstimator:
    """The estimator with every unset ``random_state``, nested ones too, and an unset ``n_jobs``, from the task."""
    values = estimator.get_params(deep=True)
    luck = {name: task.seed for name, value in values.items() if is_seed(name) and value is None}
    jobs = {"n_jobs": task.cpus} if "n_jobs" in values and values["n_jobs"] is None else {}
    return estimator.set_params(**luck, **jobs)


def is_seed(name: str) -> bool:
    """Whether a parameter, nested or not, is a ``random_state``."""
    return name.split("__")[-1] == "random_state"


def require_task(estimator: BaseEstimator) -> None:
    """Refuse what neither classifies nor regresses, and classifiers without probabilities.

    What an ensemble of others can do is known only once it is fitted: then it is asked again.

    Raises:
        PluginFailed: with what to use instead.
    """
    title = type(estimator).__name__
    if not (is_classifier(estimator) or is_regressor(estimator)):
        hint = "name one whose class ends in Classifier or Regressor, or a linear model"
        raise PluginFailed(f"{title} is neither a classifier nor a regressor", hint=hint, key="with.estimator")
    if not {"estimator", "estimators"} & set(estimator.get_params(deep=False)):
        require_probabilities(estimator)


def require_probabilities(estimator: BaseEstimator) -> None:
    """Refuse a classifier that gives labels only.

    Raises:
        PluginFailed: with what to use instead.
    """
    title = type(estimator).__name__
    if is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        hint = NO_PROBABILITIES.get(title, "use e.g. sklearn.linear_model.LogisticRegression")
        raise PluginFailed(f"{title} gives no probabilities", hint=hint, key="with.estimator")


@contextlib.contextmanager
def explained(estimator: BaseEstimator, params: Iterable[str]) -> Iterator[None]:
    """Give what scikit-learn says of a parameter, or of the data, as an error of the spec.

    Raises:
        PluginFailed: at the parameter when one is named, else at the estimator.
    """
    try:
        yield
    except (ValueError, TypeError, ArithmeticError) as error:
        fact = first_line(error)
        named = next((name for name in params if f"'{name}'" in fact), None)
        key = f"with.params.{named}" if named else "with.estimator"
        title = type(estimator).__name__
        fact = fact if title in fact else f"{title}: {fact}"
        raise PluginFailed(fact.rstrip("."), hint=see(type(estimator)), key=key) from error


def see(kind: type) -> str:
    """Where the parameters of an estimator are described."""
    return f"see the parameters of {kind.__name__}: python -m pydoc {public_name(kind)}"


def public_name(kind: type) -> str:
    """The dotted name of a class below the last public package that it is in."""
    public = itertools.takewhile(lambda part: not part.startswith("_"), kind.__module__.split("."))
    return ".".join([*public, kind.__name__])


def first_line(error: Exception) -> str:
    """The first line of what was said, or what kind of error it was."""
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
