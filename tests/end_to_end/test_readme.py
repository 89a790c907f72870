"""The README says what happens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from end_to_end.readme import PYTHON, README, Example, alike, examples, fresh_project, run

EXAMPLES = list(examples(README.read_text()))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fresh_project(tmp_path_factory.mktemp("readme"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.command for example in EXAMPLES])
def test_a_command_of_the_readme_prints_what_is_pasted_there(example: Example, project: Path) -> None:
    assert alike(run(example.command, project)) == alike(example.output)


def test_the_python_of_the_readme_runs(project: Path) -> None:
    code = PYTHON.search(README.read_text())[0].removeprefix("```python\n").removesuffix("```")  # type: ignore[index]
    quick = code.replace('["seed=8"]', '["train.with.params.max_iter=50"]')  # answered from the record
    done = subprocess.run([sys.executable, "-c", quick], cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert " passed " in printed[0]
    assert 0 < float(printed[1].strip("[]")) < 1
