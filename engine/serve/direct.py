"""A request through all that the server does with it but the network: bytes -> tensors -> checks -> model -> bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from engine.serve.checks import Checks, lowered
from engine.serve.inputs import Inputs, inputs_of
from engine.serve.model import AnyArray, InferenceAnswer, Rejected
from engine.serve.onnx import Session
from engine.serve.v2 import read_request, write_answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Direct:
    """A model that is asked without a server."""

    session: Session
    inputs: Inputs
    checks: Checks

    def answer(self, body: bytes) -> bytes:
        """Answer a request in JSON.

        Raises:
            Rejected: as the server would say it.
        """
        request = read_request(body)
        columns, _ = self.inputs.arrays(request.tensors)
        for row, finding in self.checks.wrong(columns)[0].items():
            raise Rejected(400, f"row {row}, {finding}", kind=finding.kind)
        outputs = self.session.run(columns)
        datatypes = {tensor.name: tensor.datatype for tensor in self.session.outputs}
        found = InferenceAnswer("", 0, "", "", "", outputs, datatypes)
        return write_answer(found, request)[0]


def direct(session: Session, categories: Mapping[str, Sequence[Any]] | None = None) -> Direct:
    """A model behind the checks of its inputs' types and of ``categories``, of which unknown ones are let through."""
    checks = lowered(session.inputs, None, categories, "pass")
    return Direct(session=session, inputs=inputs_of(session.inputs), checks=checks)


def request_of(session: Session, columns: Mapping[str, AnyArray]) -> dict[str, Any]:
    """Rows of every input as a request in JSON; what is not finite is null."""
    return {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(columns[tensor.name].shape),
                "data": columns[tensor.name].reshape(-1).tolist(),
            }
            for tensor in session.inputs
        ]
    }


def body_of(session: Session, columns: Mapping[str, AnyArray]) -> bytes:
    """:func:`request_of` as bytes."""
    return orjson.dumps(request_of(session, columns))
