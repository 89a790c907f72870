"""``evaluate`` -> one evaluate step for the model and one for each baseline, and one step a gate."""

from __future__ import annotations

from engine.plan.model import Draft, Source, Step
from engine.plan.passes.training import MODEL, NATIVE, SIGNATURE, features_params, trainer_key, written_target
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import judging_questions, metric_questions, step_question
from engine.spec.model import Gate
from engine.spec.vocabulary import LEAKAGE, MEASUREMENTS, PROPERTIES


def lower_evaluation(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Judge the ONNX model, and every baseline that there is on the same rows."""
    spec = resolved.spec
    table = draft.tables[spec.evaluate.data]
    common = {
        "target": written_target(spec),
        **({} if spec.group is None else {"group": spec.group}),
        "metrics": list(spec.evaluate.metrics),
        "slices": [item.model_dump(mode="json") for item in spec.evaluate.slices],
        **({} if spec.evaluate.weights is None else {"weights": spec.evaluate.weights}),
    }
    judging = (step_question("evaluate").key, *(question.key for question in judging_questions(spec)))
    evaluate = Step(
        id="evaluate",
        kind="evaluate",
        params=common,
        inputs={"table": table, "model": MODEL, "signature": SIGNATURE, "native": NATIVE},
        outputs=("evaluation", "predictions"),
        code=(*judging, trainer_key(spec)),
        key=("evaluate",),
    )
    baselines = [
        Step(
            id=baseline_step(ref),
            kind="evaluate",
            params={**common, "model": pin.digest, "version": pin.version},
            inputs={"table": table, "signature": SIGNATURE},
            outputs=("evaluation", "predictions"),
            code=judging,
            key=("evaluate", "gates"),
        )
        for ref, pin in sorted(resolved.answers.models.items())
        if pin.digest is not None
    ]
    return draft.add(evaluate, *baselines)


def baseline_step(ref: str) -> str:
    """The id of the step that evaluates a baseline."""
    return f"evaluate.{ref}"


def lower_gates(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """One step a gate, reading only what it judges."""
    gates = enumerate(resolved.spec.evaluate.gates)
    return draft.add(*(gate_step(index, gate, draft, resolved) for index, gate in gates))


def gate_step(index: int, gate: Gate, draft: Draft, resolved: ResolvedSpec) -> Step:
    """A gate and its evidence: predictions, the model's bytes, the data, or the machine itself."""
    params: dict[str, object] = {"gate": {**gate.model_dump(mode="json", exclude={"level"}), "name": gate.title}}
    inputs = evidence(gate, draft, resolved)
    measures = gate.metric in MEASUREMENTS
    if gate.metric in LEAKAGE:
        params |= {"features": features_params(resolved.spec), "target": written_target(resolved.spec)}
    if gate.baseline is not None:
        pin = resolved.answers.models[gate.baseline]
        params["baseline"] = pin.document()
        if pin.digest is not None:
            inputs["baseline"] = Source(step=baseline_step(gate.baseline), output="predictions")
    return Step(
        id=f"gate.{gate.title}",
        kind="gate",
        params=params,
        inputs=inputs,
        code=(step_question("gate").key, *(question.key for question in metric_questions([gate.metric]))),
        outputs=() if measures else ("verdict",),
        key=("evaluate", "gates", index),
        measures=measures,
    )


def evidence(gate: Gate, draft: Draft, resolved: ResolvedSpec) -> dict[str, Source]:
    """What a gate reads, and nothing else."""
    spec = resolved.spec
    table, evaluation = draft.tables[spec.evaluate.data], Source(step="evaluate", output="evaluation")
    predictions = Source(step="evaluate", output="predictions")
    if gate.metric in MEASUREMENTS:
        return {"model": MODEL, "signature": SIGNATURE, "table": table}
    if gate.metric == "model_mb":
        return {"model": MODEL}
    if gate.metric in LEAKAGE:
        return {"train": draft.tables[spec.train.data], "table": table}
    if gate.metric in PROPERTIES and gate.metric != "onnx_parity_share":
        return {"evaluation": evaluation}
    return {"evaluation": evaluation, "predictions": predictions}
