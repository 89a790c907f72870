"""What a run was made of, read back from its record: the four things that may differ between two runs.

::

    record --parts_of--> Parts(spec, data, code, environment) --mixed--> Parts --pipeline.prepare_parts--> a plan
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from engine.digest import digest_of
from engine.errors import UsageError
from engine.record.model import RunRecord
from engine.resolve.model import DataFile, DataPin, ModelPin
from engine.resolve.resolve import definition, operation
from engine.spec.model import Spec
from engine.store.objects import ObjectStore

Part = Literal["spec", "data", "code", "environment"]
PARTS: tuple[Part, ...] = ("spec", "data", "code", "environment")
NO_SPEC = ("format", "data", "models", "code", "environment")
"""What a run's identity has beside the spec."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What a run is made of.

    Attributes:
        spec: as it was written, defaults and schemas written out.
        data: each source's pin, with the files and their digests. A run's baselines, in ``models``, go with the spec.
        modules: dotted name -> SHA-256 of the source, of Engine's steps, its plugins and the project.
        environment: the platform and ``distributions``.
    """

    spec: Spec
    data: Mapping[str, DataPin]
    models: Mapping[str, ModelPin]
    modules: Mapping[str, str]
    environment: Mapping[str, Any]

    @property
    def distributions(self) -> Mapping[str, str]:
        """The version of each distribution."""
        found: Mapping[str, str] = self.environment["distributions"]
        return found


def parts_of(record: RunRecord, store: ObjectStore) -> Parts:
    """What the run of a record was made of. Every manifest is hashed when it is read.

    Raises:
        NotFound, DigestMismatch: when the store does not have a manifest as it was.
        UsageError: when the record's spec is not one of this version.
    """
    dependencies = record.dependencies
    return Parts(
        spec=spec_of(record),
        data={
            name.removeprefix("data/"): data_pin(pin, store)
            for name, pin in dependencies.items()
            if name.startswith("data/")
        },
        models={ref: ModelPin(**pin) for ref, pin in record.definition["externalParameters"]["models"].items()},
        modules=dict(json.loads(store.read(dependencies["code"]["digest"]["sha256"]))),
        environment=json.loads(store.read(dependencies["environment"]["digest"]["sha256"])),
    )


def data_pin(pin: Mapping[str, Any], store: ObjectStore) -> DataPin:
    """A source's pin, as the record has it, with the files of its manifest."""
    manifest = json.loads(store.read(pin["digest"]["sha256"]))
    files = tuple(DataFile(path=path, digest=digest, size=store.size(digest)) for path, digest in manifest)
    annotations = pin["annotations"]
    return DataPin(uri=pin["uri"], commit=annotations["commit"], files=files, format=annotations["format"])


def spec_of(record: RunRecord) -> Spec:
    """The spec of a record: :func:`engine.resolve.resolve.resolve` the other way round.

    Raises:
        UsageError: when it is not one of this version.
    """
    try:
        return Spec.model_validate(written(record))
    except (ValidationError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0]
        hint = "use the version of Engine that recorded it"
        raise UsageError(f"the recorded spec cannot be read: {reason}", place=record.run_id, hint=hint) from error


def written(record: RunRecord) -> dict[str, Any]:
    """The values of a record's spec."""
    identity, kept = record.definition["externalParameters"], record.definition["internalParameters"]
    pins = record.dependencies
    values = {key: value for key, value in identity.items() if key not in NO_SPEC}
    values["data"] = {
        name: {"uri": pins[f"data/{name}"]["uri"], "schema": item["schema"], "format": item["format"]}
        for name, item in identity["data"].items()
    }
    train = dict(values["train"])
    values["train"] = {**train, "resources": {**kept["train"]["resources"], "cpus": train.pop("cpus")}}
    del values["train"]["cpus"]
    if values.get("monitor"):
        beside = dict(kept["monitor"])
        windows = beside.pop("windows")
        detectors = [{**item, "window": windows[item["name"]]} for item in values["monitor"]["detectors"]]
        values["monitor"] = {**values["monitor"], **beside, "detectors": detectors}
    return {**values, **{section: kept[section] for section in ("serve", "sweep", "cluster")}}


def differing(left: Parts, right: Parts) -> tuple[Part, ...]:
    """Which of the four differ between two runs. What is operation in a spec counts as well."""
    sides = [
        {
            "spec": digest_of(spec_values(parts)),
            "data": digest_of({name: pin.digest for name, pin in parts.data.items()}),
            "code": digest_of(dict(parts.modules)),
            "environment": digest_of(dict(parts.environment)),
        }
        for parts in (left, right)
    ]
    return tuple(part for part in PARTS if sides[0][part] != sides[1][part])


def spec_values(parts: Parts) -> dict[str, Any]:
    """The spec's values, less where the data lies, and the baselines that it was judged against."""
    dumped = parts.spec.model_dump(mode="json", by_alias=True)
    values = definition(parts.spec, dumped)
    values["data"] = {
        name: {"schema": item["schema"], "format": item["format"]} for name, item in dumped["data"].items()
    }
    models = {ref: pin.document() for ref, pin in parts.models.items()}
    return {**values, "models": models, "operation": operation(dumped)}


def mixed(left: Parts, right: Parts, taken: Collection[Part]) -> Parts:
    """``left`` with some of the four from ``right``, to find out which of them made a difference.

    An environment cannot be taken from anywhere: it is where a run is executed.
    """
    found = left
    if "spec" in taken:
        found = replace(found, spec=right.spec, models=right.models)
    if "data" in taken:
        found = replace(found, data=right.data)
    if "code" in taken:
        found = replace(found, modules=right.modules)
    return found


def lay_out(modules: Mapping[str, str], store: ObjectStore, folder: Path) -> None:
    """Write the project's modules among ``modules`` below ``folder``, as they were.

    Raises:
        NotFound, DigestMismatch: when the store does not have a source as it was.
    """
    for name, digest in modules.items():
        parts = name.split(".")
        if not is_project_module(name) or not all(part.isidentifier() for part in parts):
            continue
        is_package = any(other.startswith(f"{name}.") for other in modules)
        path = folder.joinpath(*parts, "__init__.py") if is_package else folder.joinpath(*parts).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(digest))


def is_project_module(name: str) -> bool:
    """Whether a module is the project's own, and not Engine's or one of a shipped plugin."""
    return name.split(".")[0] not in ("engine", "engine_plugins")
