"""``data`` -> one ingest and one validate step a source."""

from __future__ import annotations

from engine.plan.model import Draft, Source, Step
from engine.resolve.model import ResolvedSpec
from engine.resolve.questions import step_question


def lower_data(draft: Draft, resolved: ResolvedSpec) -> Draft:
    """Each source becomes one table, and is validated where it has a schema.

    ::

        ingest.train --table--> validate.train --table-->
    """
    for name in sorted(resolved.spec.data):
        pin = resolved.answers.data[name]
        ingest = Step(
            id=f"ingest.{name}",
            kind="ingest",
            params={"format": pin.format, "files": [[file.path, file.digest] for file in pin.files]},
            outputs=("table",),
            code=(step_question("ingest").key,),
            key=("data", name),
        )
        draft = draft.add(ingest).point(name, Source(step=ingest.id, output="table"))
        if name in resolved.answers.schemas:
            validate = Step(
                id=f"validate.{name}",
                kind="validate",
                params={"schema": resolved.answers.schemas[name]},
                inputs={"table": draft.tables[name]},
                outputs=("table", "failures"),
                code=(step_question("validate").key,),
                key=("data", name, "schema"),
            )
            draft = draft.add(validate).point(name, Source(step=validate.id, output="table"))
    return draft
