"""Decisions that a change should not undo by accident."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from engine.spec.vocabulary import METRICS
from engine.steps.metrics import FUNCTIONS
from projects import Project, make_project

HEAVY = {
    "ray",
    "sklearn",
    "onnxruntime",
    "alibi_detect",
    "pandas",
    "pandera",
    "scipy",
    "hydra",
    "lakefs_client",
    "starlette",
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return make_project(tmp_path_factory.mktemp("guards"))


def modules_after(code: str, folder: Path) -> set[str]:
    """The top-level modules that are loaded after ``code``."""
    full = f"import sys\n{code}\nsys.stderr.write(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", full], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def command(*arguments: str) -> str:
    """Code that does a command, which must succeed."""
    return f"from engine.cli.main import main; assert main({list(arguments)}) == 0"


LIGHT = {
    "import engine": "import engine",
    "help": command("--help"),
    "validate": command("validate", "spec.yaml"),
    "plan": command("plan", "spec.yaml"),
    "models": command("models", "list"),
    "runs": command("runs", "list"),
    "plugins": command("plugins", "list"),
}


@pytest.mark.parametrize("code", LIGHT.values(), ids=LIGHT)
def test_what_is_asked_often_imports_nothing_heavy(project: Project, code: str) -> None:
    assert HEAVY.isdisjoint(modules_after(code, project.root))


def test_a_command_of_the_lake_imports_neither_specs_nor_tables(project: Project) -> None:
    found = modules_after(
        "from engine.cli.main import main; main(['lake', 'ls', 'lakefs://numbers/main'])", project.root
    )
    assert (HEAVY | {"pyarrow", "numpy", "rich", "yaml", "omegaconf", "lakefs_client", "starlette"}).isdisjoint(found)


def test_an_unchanged_run_starts_no_ray_and_imports_nothing_heavy(project: Project) -> None:
    first = modules_after(command("run", "spec.yaml", "--inline"), project.root)
    assert "ray" not in first
    assert {"pyarrow", "pandera"} <= first
    again = modules_after(command("run", "spec.yaml"), project.root)
    assert (HEAVY | {"pyarrow", "numpy"}).isdisjoint(again)


def test_every_metric_of_the_vocabulary_can_be_computed_and_no_other() -> None:
    assert set(METRICS) == set(FUNCTIONS)


BROAD = {"Exception", "BaseException"}


def swallows(node: ast.AST) -> bool:
    """Whether a piece of code takes every exception, and does not raise it on."""
    if isinstance(node, ast.ExceptHandler):
        caught = {name.id for name in ast.walk(node.type) if isinstance(name, ast.Name)} if node.type else BROAD
        last = node.body[-1]
        return bool(caught & BROAD) and not (isinstance(last, ast.Raise) and last.exc is None)
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(isinstance(given, ast.Name) and given.id in BROAD for given in node.args)
    return False


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("except: pass", True),
        ("except Exception: pass", True),
        ("except (ValueError, Exception) as e: raise KeyError from e", True),
        ("except BaseException: clean(); raise", False),
        ("except (ValueError, OSError): pass", False),
    ],
)
def test_a_handler_that_takes_everything_can_be_told(code: str, answer: bool) -> None:
    assert any(swallows(node) for node in ast.walk(ast.parse(f"try: f()\n{code}"))) is answer


def test_only_the_boundary_catches_everything() -> None:
    found = [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
        for path in (ROOT / "engine").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if swallows(node) and path.name != "boundary.py"
    ]
    assert found == []


def test_the_lock_names_no_registry() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_the_sample_spec_is_valid_where_nothing_is_set_up() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli.main", "validate", "specs/model.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "specs/model.yaml: valid\n"


def test_the_checks_of_columns_are_panderas() -> None:
    from pandera.pandas import Check

    from engine.spec.vocabulary import COLUMN_CHECKS

    assert set(COLUMN_CHECKS) <= set(Check.CHECK_FUNCTION_REGISTRY)
