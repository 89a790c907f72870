"""A class that a spec names is found in its source, and what its constructor takes is known, before anything runs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.classes import parameters_of
from engine.errors import NotFound, UsageError
from projects import Project, engine, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose trainer is scikit-learn's, with an estimator of its own beside it."""
    made = make_project(tmp_path_factory.mktemp("classes") / "project")
    given = {"estimator": "sklearn.linear_model.Ridge", "params": {"alpha": 0.1}}
    made.write({"train.uses": "sklearn", "train.with": given})
    (made.root / "own.py").write_text(
        "from sklearn.linear_model import Ridge\n\n\nclass Careful(Ridge):\n    pass\n\n\n"
        "class Bold(Ridge):\n    def __init__(self, *, courage=1):\n        self.courage = courage\n"
    )
    return made


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter", "learning_rate"}),
        ("sklearn.linear_model.LogisticRegression", {"C", "max_iter"}),
        ("sklearn.svm.SVC", {"probability"}),
        ("own:Careful", {"alpha"}),  # its base's, through an import
        ("own:Bold", {"courage"}),
    ],
)
def test_what_a_constructor_takes_is_read_from_its_source(project: Project, name: str, some: set[str]) -> None:
    assert some <= set(parameters_of(name, (project.root,)) or ())


@pytest.mark.parametrize("name", ["os.system", "collections.OrderedDict"])
def test_what_its_source_does_not_tell_is_not_complained_about(name: str) -> None:
    assert parameters_of(name) is None


@pytest.mark.parametrize(
    ("name", "error", "hint"),
    [
        ("sklearn.ensemble.RandomForestClasifier", NotFound, 'did you mean "RandomForestClassifier"?'),
        ("sklearn.nothing.At", NotFound, "it is looked for"),
        ("Ridge", UsageError, "package.module.Class"),
    ],
)
def test_a_class_that_is_not_there_is_told(name: str, error: type[Exception], hint: str) -> None:
    with pytest.raises(error) as raised:
        parameters_of(name)
    assert hint in raised.value.hint  # type: ignore[attr-defined]


WRONG = [
    ("train.with.estimator=sklearn.linear_model.Rigde", "class-unknown", 'did you mean "Ridge"?'),
    ("+train.with.params.alfa=1", "parameter-unknown", 'Ridge has no parameter "alfa"; did you mean "alpha"?'),
    ("train.with={estimator: 'own:Bold', params: {corage: 2}}", "parameter-unknown", 'did you mean "courage"?'),
    (
        "train.with={estimator: sklearn.ensemble.StackingRegressor, params: {final_estimator: "
        "{estimator: sklearn.linear_model.Rigde}}}",
        "class-unknown",
        "train.with.params.final_estimator.estimator",
    ),
]


@pytest.mark.parametrize(("override", "rule", "said"), WRONG, ids=[row[0] for row in WRONG])
def test_an_estimator_is_judged_before_anything_runs(project: Project, override: str, rule: str, said: str) -> None:
    assert engine(project.root, "validate", "spec.yaml").code == 0
    done = engine(project.root, "validate", "spec.yaml", "--", override)
    assert (done.code, rule in done.out, said in done.out) == (1, True, True)


def test_no_library_is_imported_for_it(project: Project) -> None:
    code = "import sys; from engine.classes import parameters_of; parameters_of('sklearn.svm.SVC');"
    code += "print([name for name in ('sklearn', 'numpy', 'scipy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
