"""Transform ``python``: a function of the project, table in, table out."""

from __future__ import annotations

import functools
import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engine.errors import nearest
from engine.plugins import PluginFailed

Function = Callable[..., Any]
DATA_FRAMES = frozenset({"DataFrame", "pd.DataFrame", "pandas.DataFrame"})
PANDAS = frozenset({"pandas", "pandas.core.frame"})


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonTransform:
    """Calls a function of the project.

    ``function``: ``module:name``; its first parameter is the table, as pyarrow.Table, or as pandas.DataFrame when
    it is annotated so; it gives back either. ``arguments``: its other parameters.
    """

    function: str
    arguments: dict[str, object] = field(default_factory=dict)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Apply the function.

        Raises:
            PluginFailed: when there is no such function, when it does not take the arguments, and when it gives
                back no table. What the function itself raises passes through.
        """
        function = imported(self.function)
        first = first_parameter(function, self.function, self.arguments)
        given = table.to_pandas() if wants_frame(function, first) else table
        return as_table(function(given, **self.arguments), self.function)


def imported(name: str) -> Function:
    """The function that ``module:name`` names.

    Raises:
        PluginFailed: when it is not there.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise PluginFailed(f'"{name}" is not a function', hint="write it as `module:function`", key="with.function")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        hint = "it is looked for in the project and in the environment"
        raise PluginFailed(f"cannot import {module_name}: {error}", hint=hint, key="with.function") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        close = nearest(attribute, [key for key, value in vars(module).items() if inspect.isfunction(value)])
        hint = f'did you mean "{module_name}:{close}"?' if close else f"define it in {module_name}"
        raise PluginFailed(f'{module_name} has no function "{attribute}"', hint=hint, key="with.function")
    return typing.cast(Function, function)


def first_parameter(function: Function, name: str, arguments: Mapping[str, object]) -> inspect.Parameter:
    """The parameter that takes the table, after checking that the function takes the arguments too.

    Raises:
        PluginFailed: when it does not.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if not parameters:
        hint = "give it a first parameter, which is the table"
        raise PluginFailed(f"{name} takes no table", hint=hint, key="with.function")
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        fact = f"{name}{shown(signature)} cannot be called so: {error}"
        raise PluginFailed(fact, hint="mend `arguments:`", key="with.arguments") from error
    return parameters[0]


def shown(signature: inspect.Signature) -> str:
    """A function's parameters by name."""
    return f"({', '.join(signature.parameters)})"


def wants_frame(function: Function, parameter: inspect.Parameter) -> bool:
    """Whether a parameter is annotated as pandas.DataFrame, by the class or by its name."""
    annotation = parameter.annotation
    if isinstance(annotation, str) and annotation in DATA_FRAMES:
        return True
    target = function.func if isinstance(function, functools.partial) else function
    if isinstance(annotation, str):
        annotation = getattr(target, "__globals__", {}).get(annotation)
    return getattr(annotation, "__name__", "") == "DataFrame" and getattr(annotation, "__module__", "") in PANDAS


def as_table(result: object, name: str) -> pa.Table:
    """What a function gave back, as a table; a data frame's index is dropped.

    Raises:
        PluginFailed: when it is neither a table nor a data frame, or a column of it has no one type.
    """
    if isinstance(result, pa.Table):
        return result
    if type(result).__module__ not in PANDAS or type(result).__name__ != "DataFrame":
        fact = f"{name} gave back {type(result).__name__}, not a pyarrow.Table or pandas.DataFrame"
        raise PluginFailed(fact, hint="return the table", key="with.function")
    try:
        return pa.Table.from_pandas(result, preserve_index=False).replace_schema_metadata(None)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        fact = f"{name} gave back a column that Arrow has no type for: {'; '.join(str(part) for part in error.args)}"
        raise PluginFailed(fact, hint="give every column one type", key="with.function") from error
