"""``train`` -> a train step and an export step."""

from __future__ import annotations

from engine.plan.model import Draft, Source, Step, StepResources
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import component_question, step_question
from engine.spec.model import Spec

MODEL = Source(step="export", output="model")
NATIVE = Source(step="train", output="native")
SIGNATURE = Source(step="export", output="signature")


def lower_training(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Fit the model, then turn it into ONNX.

    ::

        table --> train --native--> export --model, signature-->
          `--------------------------^ (the categories that were learned from)
    """
    spec, wanted = resolved.spec, resolved.spec.train.resources
    trainer = trainer_key(spec)
    train = Step(
        id="train",
        kind="train",
        params={
            "uses": spec.train.uses,
            "with": dict(spec.train.with_),
            "features": features_params(spec),
            "target": written_target(spec),
            **({} if spec.group is None else {"group": spec.group}),
            "seed": spec.seed,
        },
        inputs={"table": draft.tables[spec.train.data]},
        outputs=("native",),
        code=(step_question("train").key, trainer),
        resources=StepResources(
            cpus=wanted.cpus,
            memory=wanted.memory,
            gpus=wanted.gpus,
            timeout=wanted.timeout,
            retries=wanted.retries,
        ),
        key=("train",),
    )
    export = Step(
        id="export",
        kind="export",
        inputs={"native": NATIVE, "table": draft.tables[spec.train.data]},
        outputs=("model", "signature"),
        code=(step_question("export").key, trainer),
        key=("train",),
    )
    return draft.add(train, export)


def written_target(spec: Spec) -> str | list[str]:
    """The target, or all of several, as steps take them."""
    return spec.target if isinstance(spec.target, str) else list(spec.target)


def trainer_key(spec: Spec) -> str:
    """The key of the closure behind the trainer with its parameters."""
    return component_question("trainer", spec.train.uses, spec.train.with_).key


def features_params(spec: Spec) -> dict[str, list[str]]:
    """The feature columns by role, as steps take them."""
    return {"numeric": list(spec.features.numeric), "categorical": list(spec.features.categorical)}
