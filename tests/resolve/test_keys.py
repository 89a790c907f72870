"""Every key of a spec is identity or operation, as CONTRACT 1 says: this is its table, and it leaves no key out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from engine.api import prepare_spec
from engine.spec.model import Spec
from projects import Project, make_project

PYTHON = "transform=[{name: all, uses: python, data: [train, test], with: {function: 'my_transform:same'}}]"
KEYS: dict[str, tuple[str, list[str]]] = {
    "name": ("I", ["name=others"]),
    "seed": ("I", ["seed=8"]),
    "data.uri": ("I", ["data.train.uri=lakefs://numbers/main/test.parquet"]),
    "data.schema": ("I", ["data.train.schema=null"]),
    "data.format": ("same", ["+data.train.format=parquet"]),  # what the file's name says anyway
    "transform.name": ("I", ["transform.0.name=other"]),
    "transform.uses": ("I", [PYTHON]),
    "transform.data": ("I", ["transform.0.data=[train]"]),
    "transform.with": ("I", ["transform.0.with.query='select * from {source} where x > -100'"]),
    "features.numeric": ("I", ["features.numeric=[x]"]),
    "features.categorical": ("I", ["+features.categorical=[group]"]),
    "target": ("I", ["target=x", "features.numeric=[z]"]),
    "group": ("I", ["+group=z", "features.numeric=[x]"]),
    "train.uses": ("I", ["train.uses=sklearn", "train.with={estimator: sklearn.linear_model.Ridge}"]),
    "train.data": ("I", ["train.data=test"]),
    "train.with": ("I", ["train.with={ridge: 0.5}"]),
    "train.resources.cpus": ("I", ["train.resources.cpus=2"]),
    "train.resources.memory": ("O", ["train.resources.memory=1GiB"]),
    "train.resources.gpus": ("O", ["train.resources.gpus=1"]),
    "train.resources.timeout": ("O", ["train.resources.timeout=9m"]),
    "train.resources.retries": ("O", ["train.resources.retries=0"]),
    "evaluate.data": ("I", ["evaluate.data=train"]),
    "evaluate.metrics": ("I", ["evaluate.metrics=[mae,r2,mse]"]),
    "evaluate.weights": ("I", ["+evaluate.weights=z"]),
    "evaluate.slices.name": ("I", ["evaluate.slices=[group,{name: zed, column: z}]", "evaluate.gates.1.slice=zed"]),
    "evaluate.slices.column": ("I", ["evaluate.slices=[group]"]),
    "evaluate.slices.ranges": ("I", ["evaluate.slices=[group,{column: z, ranges: [3]}]"]),
    "evaluate.slices.sql": ("I", ["evaluate.slices=[group,z,{name: few, sql: 'z < 3'}]"]),
    "evaluate.gates.name": ("I", ["+evaluate.gates.0.name=first"]),
    "evaluate.gates.metric": ("I", ["evaluate.gates.0.metric=r2"]),
    "evaluate.gates.min": ("I", ["+evaluate.gates.0.min=0"]),
    "evaluate.gates.max": ("I", ["evaluate.gates.0.max=0.9"]),
    "evaluate.gates.between": ("I", ["evaluate.gates.0.max=null", "+evaluate.gates.0.between=[0,1]"]),
    "evaluate.gates.baseline": ("I", ["evaluate.gates.2.baseline=canary"]),
    "evaluate.gates.max_drop": ("I", ["evaluate.gates.2.max_drop=0.4"]),
    "evaluate.gates.min_gain": ("I", ["evaluate.gates.2.max_drop=null", "+evaluate.gates.2.min_gain=0.1"]),
    "evaluate.gates.confidence": ("I", ["+evaluate.gates.2.confidence=0.9"]),
    "evaluate.gates.slice": ("I", ["evaluate.gates.1.slice=z"]),
    "evaluate.gates.min_rows": ("I", ["evaluate.gates.1.min_rows=6"]),
    "evaluate.gates.better": (
        "I",
        [
            "evaluate.metrics=[mae,r2,'helper:cost']",
            "evaluate.gates.2.metric='helper:cost'",
            "+evaluate.gates.2.better=lower",
        ],
    ),
    "evaluate.gates.tolerance": (
        "I",
        ["evaluate.gates.3.metric=onnx_parity_share", "+evaluate.gates.3.tolerance=1.0e-6"],
    ),
    "evaluate.gates.by": ("I", ["evaluate.gates.3.metric=leaked_rows", "+evaluate.gates.3.by=[x]"]),
    "evaluate.gates.level": ("I", ["+evaluate.gates.0.level=warn"]),
    "evaluate.gates.on_missing": ("I", ["+evaluate.gates.2.on_missing=refuse"]),
    "serve.max_batch_rows": ("O", ["serve.max_batch_rows=8"]),
    "serve.max_queue": ("O", ["serve.max_queue=8"]),
    "serve.deadline": ("O", ["serve.deadline=2s"]),
    "serve.unknown_category": ("O", ["serve.unknown_category=pass"]),
    "serve.workers": ("O", ["serve.workers=2"]),
    "serve.log.sample": ("O", ["serve.log.sample=0.5"]),
    "serve.log.redact": ("O", ["serve.log.redact=[x]"]),
    "serve.log.fsync": ("O", ["serve.log.fsync=always"]),
    "serve.canary.traffic": ("O", ["serve.canary.traffic=0.1"]),
    "serve.shadow": ("O", ["serve.shadow=true"]),
    "monitor.reference": ("I", ["monitor.reference=test"]),
    "monitor.detectors.name": ("I", ["monitor.detectors.0.name=other"]),
    "monitor.detectors.uses": ("I", ["monitor.detectors.0.uses=psi"]),
    "monitor.detectors.with": ("I", ["monitor.detectors.0.with={p_val: 0.01}"]),
    "monitor.detectors.window": ("O", ["monitor.detectors.0.window=1h"]),
    "monitor.false_alarms": ("O", ["monitor.false_alarms='1 per 30 days'"]),
    "monitor.performance.metric": ("O", ["monitor.performance=[{metric: r2, min: 0.1}]"]),
    "monitor.performance.min": ("O", ["monitor.performance=[{metric: mae, min: 0.1}]"]),
    "monitor.performance.max": ("O", ["monitor.performance=[{metric: mae, max: 0.1}]"]),
    "monitor.performance.window": ("O", ["monitor.performance=[{metric: mae, max: 0.1, window: 7}]"]),
    "monitor.on_alert.log": ("O", ["monitor.on_alert.log=false"]),
    "monitor.on_alert.webhook": ("O", ["monitor.on_alert.webhook='https://example.com/other'"]),
    "monitor.on_alert.signing_key": ("O", ["+monitor.on_alert.signing_key='k'"]),
    "monitor.on_alert.cooldown": ("O", ["+monitor.on_alert.cooldown=2h"]),
    "monitor.on_alert.retrain": ("O", ["monitor.on_alert.retrain=true"]),
    "monitor.on_alert.retrain.alias": ("O", ["monitor.on_alert.retrain={alias: shadow}"]),
    "monitor.on_alert.retrain.cooldown": ("O", ["monitor.on_alert.retrain={cooldown: 2d}"]),
    "monitor.on_alert.retrain.limit": ("O", ["monitor.on_alert.retrain={limit: 3}"]),
    "sweep.objective": ("O", ["sweep.objective=mae"]),
    "sweep.direction": ("O", ["sweep.direction=minimize"]),
    "sweep.max_parallel": ("O", ["sweep.max_parallel=3"]),
    "sweep.keep_going": ("O", ["sweep.keep_going=false"]),
    "cluster.autostart": ("O", ["cluster.autostart=true"]),
    "cluster.idle": ("O", ["cluster.idle=1h"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with every section."""
    made = make_project(tmp_path_factory.mktemp("keys") / "project")
    (made.root / "my_transform.py").write_text("def same(table):\n    return table\n")
    made.write(
        {"evaluate.slices": ["group", "z"]},
        transform=[
            {"name": "all", "uses": "sql", "data": ["train", "test"], "with": {"query": "select * from {source}"}}
        ],
        monitor={"reference": "train", "detectors": [{"name": "inputs", "uses": "ks", "window": 100}]},
    )
    return made


def keys_of(section: Any, path: str = "") -> Iterator[str]:
    """Every key below a section of the spec's model, without the names that a user gives and without indexes."""
    for name, field in section.model_fields.items():
        key = f"{path}{field.alias or name}"
        inner = next(iter(sections_in(field.annotation)), None)
        if inner is None or bool in get_args(field.annotation):
            yield key
        if inner is not None:
            yield from keys_of(inner, f"{key}.")


def sections_in(annotation: Any) -> Iterator[Any]:
    """The sections that a type speaks of, but for secrets, which are values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation.__name__ != "SecretRef":
        yield annotation
    for part in get_args(annotation):
        yield from sections_in(part)


def test_the_table_has_every_key_and_no_other() -> None:
    assert set(keys_of(Spec)) == set(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_is_identity_or_operation_as_the_contract_says(project: Project, key: str) -> None:
    part, overrides = KEYS[key]
    before = prepare_spec(project.spec).resolved
    after = prepare_spec(project.spec, overrides).resolved
    assert (after.run_id != before.run_id) == (part == "I")
    assert part != "O" or after.operation != before.operation


def test_the_id_is_the_digest_of_the_identity_and_of_nothing_else(project: Project, tmp_path: Path) -> None:
    first, second = (prepare_spec(project.spec).resolved for _ in range(2))
    assert first.run_id == second.run_id
    assert not {"commit", "uri", "host", "started"} & set(str(first.identity["data"]).replace("'", " ").split())
