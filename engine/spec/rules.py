"""Every rule by which a spec is judged: its name, why it is there, and an example of breaking and of keeping it.

The documentation is made from this table, the checks are tested with it, and reports explain their problems by it.
An example is a part of :data:`BASE`, whose sections it replaces; :data:`HERE` stands before the place of the problem.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]
PAGE = "docs/rules.md"
HERE = "▸"
BASE = """\
name: late-arrivals
seed: 7
data:
  train: {uri: lakefs://flights/main/2013-h1/, schema: schema.yaml}
  test: {uri: lakefs://flights/main/07.parquet, schema: schema.yaml}
transform:
  - {name: clean, uses: sql, data: [train, test], with: {query: "select *, delay > 15 as late from {source}"}}
features:
  numeric: [month, distance]
  categorical: [carrier]
target: late
train:
  uses: own:Trainer
  data: train
  with: {depth: 3, loss: log}
evaluate:
  data: test
  metrics: [roc_auc, brier]
  slices: [origin]
  gates:
    - {metric: roc_auc, min: 0.65}
monitor:
  reference: train
  detectors:
    - {name: inputs, uses: ks, with: {p_val: 0.05}}
"""
"""The spec that the examples change."""

FILES: Mapping[str, str] = {
    "schema.yaml": "columns: {month: {}, distance: {}, carrier: {}, origin: {}, delay: {}}\n",
    "own.py": """\
from typing import Literal


class Trainer:
    def __init__(self, *, depth: int, loss: Literal["log", "square"] = "log"): ...

    def fit(self, table, task): ...


def cost(y_true, y_pred, y_score, weights): ...
""",
    "torn.py": "class Trainer(\n",
    "train/shallow.yaml": "uses: own:Trainer\ndata: train\nwith: {depth: 1}\n",
}
"""The files beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """Sections of a spec, or with ``whole`` all of one, or with ``command`` a command line.

    Attributes:
        text: with :data:`HERE` before the place of the problem; without it the problem is in an override.
        says: the fact and the hint of the problem; empty for a good example.
        overrides: what is given after ``--``.
        files: files beside the spec, other than :data:`FILES`.
    """

    text: str
    says: str = ""
    overrides: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    command: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """A rule: its id, which never changes, what it says in a few words, why, and an example of each kind.

    A rule that is ``online`` is only looked at where ``--online`` asks for it.
    """

    id: str
    title: str
    why: str
    bad: Example
    good: Example
    severity: Severity = "error"
    online: bool = False

    @property
    def anchor(self) -> str:
        """Where the rule is written about."""
        return anchor(self.id)


def anchor(rule: str) -> str:
    """Where a rule is written about."""
    return f"{PAGE}#{rule}"


def plain(text: str) -> str:
    """An example without its mark."""
    return text.replace(HERE, "")


RULES: tuple[Rule, ...] = (
    # -- the file --------------------------------------------------------------------------------------------
    Rule(
        id="spec-missing",
        title="There is no such spec",
        why="A file, folder or pattern on the command line leads to no spec.",
        bad=Example(command=True, text="engine validate modle.yaml", says="no spec 'modle.yaml'"),
        good=Example(command=True, text="engine validate model.yaml"),
    ),
    Rule(
        id="yaml-syntax",
        title="The file is not YAML",
        why="Nothing else can be said of a file that cannot be read. The place is where reading stopped; the cause is "
        "often on the line before.",
        bad=Example(
            whole=True,
            text="name: late-arrivals\ndata: {train: {uri: lakefs://flights/main/2013-h1/}\n▸target: late\n",
            says="not YAML: expected ',' or '}', but got '<scalar>' while parsing a flow mapping; check the "
            "indentation, quotes and brackets here and on the line before",
        ),
        good=Example(text="data: {train: {uri: lakefs://flights/main/}, test: {uri: lakefs://flights/main/07.csv}}\n"),
    ),
    Rule(
        id="yaml-empty",
        title="The file is empty",
        why="A file without a single key says nothing.",
        bad=Example(
            whole=True,
            text="▸# a model to come\n",
            says="the file is empty; begin with `name: ...`, or copy specs/model.yaml",
        ),
        good=Example(text="name: late-arrivals\n"),
    ),
    Rule(
        id="yaml-mapping",
        title="The file is not a mapping",
        why="A spec is keys with values; a list or a text is none.",
        bad=Example(
            whole=True,
            text="▸- name: late-arrivals\n",
            says="the file is not a mapping of keys to values; begin with `name: ...`",
        ),
        good=Example(text="name: late-arrivals\n"),
    ),
    Rule(
        id="yaml-size",
        title="The file is too large",
        why="A spec describes data and does not hold it; a file of more than a million bytes is read by nobody.",
        bad=Example(
            whole=True,
            text="▸# ...\n",
            says="the file is larger than 1,000,000 bytes; a spec is data about data",
        ),
        good=Example(text="name: late-arrivals\n"),
    ),
    Rule(
        id="yaml-depth",
        title="The file is too deep",
        why="More than 40 levels, or so many aliases that a small file means a huge one, would only cost time.",
        bad=Example(
            text=f"train: {{uses: own:Trainer, data: train, with: {{depth: {'[' * 38}▸3{']' * 38}}}}}\n",
            says="too deep, or too many aliases; write it out flat",
        ),
        good=Example(text="train: {uses: own:Trainer, data: train, with: {depth: 3}}\n"),
    ),
    Rule(
        id="yaml-key",
        title="A key is not a name",
        why="YAML takes lists and mappings as keys; a spec has none.",
        bad=Example(
            text="train:\n  ▸[uses]: own:Trainer\n  data: train\n",
            says="a key must be a name; write `key: value`",
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n"),
    ),
    Rule(
        id="yaml-boolean-key",
        title="YAML reads a key as a boolean",
        why="In YAML 1.1 the words on, off, yes and no are true and false, as keys too.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  with: {▸on: 3}\n",
            says='YAML reads the key `on` as a boolean; put it in quotes: "on"',
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n"),
    ),
    Rule(
        id="yaml-duplicate-key",
        title="A key is there twice",
        why="YAML keeps the last of two equal keys without a word, so half of what was written would be lost.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  ▸metrics: [brier]\n",
            says='the key "metrics" is here twice; remove one of them',
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc, brier]\n"),
    ),
    Rule(
        id="spec-is-data",
        title="A spec names no code to run",
        why="A pull request that changes a spec is checked before anybody trusts it. So Hydra's `_target_` and its own "
        "settings are refused: code is named with `uses:`, which is read and not run.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, ▸_target_: os.system}\n",
            says="`_target_` is not allowed in a spec; name a plugin with `uses:`; a spec is data, not code",
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n"),
    ),
    # -- composing -------------------------------------------------------------------------------------------
    Rule(
        id="composition",
        title="The defaults list cannot be composed",
        why="A defaults list names files in folders beside the spec; one of them is not there.",
        bad=Example(
            text="defaults: [{train: ▸shalow}, _self_]\n",
            says='config group "train" has no option "shalow"; did you mean "shallow"?',
        ),
        good=Example(text="defaults: [{train: shallow}, _self_]\n"),
    ),
    Rule(
        id="override",
        title="An override does not parse or applies to nothing",
        why="What is given on the command line is in Hydra's grammar: key=value, +key=value, ~key.",
        bad=Example(text="", overrides=("seed",), says="not an override; write key=value, +key=value or ~key"),
        good=Example(text="", overrides=("seed=8", "train.with.depth=4")),
    ),
    Rule(
        id="interpolation",
        title="An interpolation leads nowhere, or in a circle",
        why="`${...}` stands for another key's value; that key has to be there, and must not lead back.",
        bad=Example(
            text="monitor:\n  reference: ▸${monitor.reference}\n",
            says="the interpolations go round in a circle; an interpolation names another key of the spec, "
            "${train.data}, or a variable, ${oc.env:NAME}",
        ),
        good=Example(text="monitor:\n  reference: ${train.data}\n"),
    ),
    Rule(
        id="interpolation-unstable",
        title="An interpolation changes from run to run",
        why="A spec that says another thing each time can never be run again. Time and Hydra's own values are refused.",
        bad=Example(
            text="name: ▸late-${now:%Y}\n",
            says="`${now:...}` changes from run to run; write the value itself",
        ),
        good=Example(text="name: late-2013\n"),
    ),
    Rule(
        id="secret-misplaced",
        title="An environment variable outside a secret",
        why="A run is recorded with all that it was made from. A variable differs from machine to machine and may be a "
        "secret, so it may only stand for a whole webhook or key, of which the name is recorded.",
        bad=Example(
            text="target: ▸${oc.env:TARGET}\n",
            says="an environment variable may stand only for a whole secret (a webhook or a key); write the value, or "
            "pass it as an override",
        ),
        good=Example(text="monitor:\n  reference: train\n  on_alert: {webhook: '${oc.env:ALERT_URL,null}'}\n"),
    ),
    Rule(
        id="secret-unset",
        title="A secret's variable is not set",
        why="Where alerts are sent it has to be. Here it need not be, so this is only a warning.",
        severity="warning",
        bad=Example(
            text="monitor:\n  reference: train\n  on_alert: {webhook: ▸'${oc.env:ALERT_URL}'}\n",
            says="the environment variable ALERT_URL is not set; set it where alerts are sent",
        ),
        good=Example(text="monitor:\n  reference: train\n  on_alert: {webhook: '${oc.env:ALERT_URL,null}'}\n"),
    ),
    # -- keys and values ---------------------------------------------------------------------------------------
    Rule(
        id="key-unknown",
        title="A key that a spec does not have",
        why="A key that nobody reads would change nothing, silently. It is nearly always a typing error.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n  ▸resource: {cpus: 2}\n",
            says='unknown key "resource" in train; did you mean "resources"?',
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n  resources: {cpus: 2}\n"),
    ),
    Rule(
        id="key-missing",
        title="A key that a spec needs",
        why="Some keys have no sensible default: where data lies, what is learned, by what it is judged.",
        bad=Example(
            text="▸evaluate:\n  data: test\n",
            says='the key "metrics" is missing; write `metrics: [roc_auc]`',
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc]\n"),
    ),
    Rule(
        id="value",
        title="A value of the wrong type, or out of range",
        why="Values are taken as they are written: a text is not made a number, nor a number a text.",
        bad=Example(text="seed: ▸seven\n", says='expected a whole number, got "seven"'),
        good=Example(text="seed: 7\n"),
    ),
    Rule(
        id="name-taken",
        title="Two of a kind have one name",
        why="Transforms, gates and detectors are told apart by their names, in plans, records and messages.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [brier]\n  gates:\n    - {metric: brier, max: 0.3}\n"
            "    - ▸{metric: brier, max: 0.2, level: warn}\n",
            says='two gates are called "brier.max"; give one a `name`, or remove it',
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [brier]\n  gates:\n    - {metric: brier, max: 0.3}\n"
            "    - {name: wish, metric: brier, max: 0.2, level: warn}\n"
        ),
    ),
    # -- data --------------------------------------------------------------------------------------------------
    Rule(
        id="uri",
        title="A URI that is not the lake's",
        why="Data is read from a version of the lake, so that a run can be repeated: lakefs://REPOSITORY/REF/PATH.",
        bad=Example(
            text="data:\n  train: {uri: ▸s3://flights/train.csv}\n  test: {uri: lakefs://flights/main/07.csv}\n",
            says='"s3://flights/train.csv" is not a lake URI; write lakefs://REPOSITORY/REF/PATH, as in '
            "lakefs://flights/main/2013-h1/",
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train.csv}\n  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="format-unknown",
        title="A file whose format cannot be told",
        why="The format follows from the name's ending; where it does not, the spec says it.",
        bad=Example(
            text="data:\n  train: {uri: ▸lakefs://flights/main/train}\n  test: {uri: lakefs://flights/main/07.csv}\n",
            says='the format of "train" cannot be told from its name; end it in / for a folder, or write `format: '
            "arrow|csv|jsonl|parquet`",
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train, format: csv}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="data-unknown",
        title="A data source that is not there",
        why="Training, evaluation, transforms and monitoring name a source under `data`.",
        bad=Example(
            text="monitor:\n  reference: ▸trian\n",
            says='no data source "trian"; did you mean "train"?',
        ),
        good=Example(text="monitor:\n  reference: train\n"),
    ),
    Rule(
        id="data-unused",
        title="A data source that nothing reads",
        why="It is left out of the plan. That may be meant, so this is a warning.",
        severity="warning",
        bad=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train.csv}\n  test: {uri: lakefs://flights/main/07.csv}\n"
            "  ▸spare: {uri: lakefs://flights/main/08.csv}\n",
            says='nothing reads the data source "spare"',
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train.csv}\n  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="schema",
        title="A schema that cannot be read",
        why="A schema is a mapping in a YAML file beside the spec, or in the spec itself.",
        bad=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train.csv, schema: ▸shema.yaml}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n",
            says='no schema file "shema.yaml" beside the spec; did you mean "schema.yaml"?',
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/train.csv, schema: schema.yaml}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="schema-key",
        title="A key of a schema's column that pandera does not read",
        why="pandera passes over a key that it does not know, so a check with a typing error would check nothing.",
        bad=Example(
            text="data:\n  train:\n    uri: lakefs://flights/main/train.csv\n"
            "    schema: {columns: {delay: {▸nulable: true}, month: {}, distance: {}, carrier: {}}}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n",
            says='the schema\'s column delay has an unknown key "nulable"; did you mean "nullable"?',
        ),
        good=Example(
            text="data:\n  train:\n    uri: lakefs://flights/main/train.csv\n"
            "    schema: {columns: {delay: {nullable: true}, month: {}, distance: {}, carrier: {}}}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="schema-value",
        title="A value in a schema that pandera does not take",
        why="A data type that is none, a flag that is neither true nor false, a check that compares with nothing: "
        "pandera refuses them when the data is there, or takes them for something else.",
        bad=Example(
            text="data:\n  train:\n    uri: lakefs://flights/main/train.csv\n"
            "    schema: {columns: {delay: {dtype: ▸flot64}, month: {}, distance: {}, carrier: {}}}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n",
            says='no data type "flot64"; did you mean "float64"?',
        ),
        good=Example(
            text="data:\n  train:\n    uri: lakefs://flights/main/train.csv\n"
            "    schema: {columns: {delay: {dtype: float64}, month: {}, distance: {}, carrier: {}}}\n"
            "  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="sql",
        title="A query that DuckDB does not take",
        why="The query of a sql transform is one SELECT over {source} that gives the same each time. It is bound to "
        "the columns that the schema names; nothing of it is executed.",
        bad=Example(
            text="transform:\n  - {name: clean, uses: sql, data: [train, test],\n"
            '     with: {query: ▸"select *, dely > 15 as late from {source}"}}\n',
            says='the query reads a column "dely" that is not there; did you mean "delay"?',
        ),
        good=Example(
            text="transform:\n  - {name: clean, uses: sql, data: [train, test],\n"
            '     with: {query: "select *, delay > 15 as late from {source}"}}\n'
        ),
    ),
    Rule(
        id="target-twice",
        title="A label is listed twice",
        why="Several labels are one target; each is predicted once.",
        bad=Example(text="target: [late, ▸late]\n", says='"late" is a target twice; remove one'),
        good=Example(text="target: late\n"),
    ),
    Rule(
        id="data-missing",
        title="Data that is not in the lake",
        why="The repository, ref or path of a source does not exist now. Looked at with --online.",
        online=True,
        bad=Example(
            text="data:\n  train: {uri: ▸lakefs://flights/mian/2013-h1/}\n  test: {uri: lakefs://flights/main/07.csv}\n",
            says="no branch, tag or commit in flights: 'mian'; did you mean \"main\"?",
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/2013-h1/}\n  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="data-unreadable",
        title="Data that is not of its format",
        why="The ending of its name, or `format`, says how a file is read, and it cannot be. Looked at with --online.",
        online=True,
        bad=Example(
            text="data:\n  train: {uri: lakefs://flights/main/2013-h1/}\n"
            "  test: {uri: ▸lakefs://flights/main/07.csv, format: parquet}\n",
            says="07.csv cannot be read: Parquet magic bytes not found in footer; write the "
            "format that it has as `format:`, or mend the file",
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/2013-h1/}\n  test: {uri: lakefs://flights/main/07.csv}\n"
        ),
    ),
    Rule(
        id="column-missing",
        title="A column that is not in the data's own files",
        why="A schema says what should be there; the files say what is. Their headers are read, not their rows. Looked "
        "at with --online.",
        online=True,
        bad=Example(
            text="data:\n  train: {uri: lakefs://flights/main/2013-h1/}\n  test: {uri: lakefs://flights/main/07.csv}\n"
            "features: {numeric: [month, ▸distanse], categorical: [carrier]}\n",
            says='no column "distanse" in the files of train or in its transforms; did you mean "distance"?',
        ),
        good=Example(
            text="data:\n  train: {uri: lakefs://flights/main/2013-h1/}\n  test: {uri: lakefs://flights/main/07.csv}\n"
            "features: {numeric: [month, distance], categorical: [carrier]}\n"
        ),
    ),
    # -- columns -----------------------------------------------------------------------------------------------
    Rule(
        id="features",
        title="No features, or one of them twice",
        why="A model reads at least one column, and each once.",
        bad=Example(
            text="features: {numeric: [month, distance, ▸month], categorical: [carrier]}\n",
            says='"month" is a feature twice; remove one',
        ),
        good=Example(text="features: {numeric: [month, distance], categorical: [carrier]}\n"),
    ),
    Rule(
        id="target-is-feature",
        title="The target is among the features",
        why="A model that reads what it is to predict has learned nothing, and looks perfect.",
        bad=Example(
            text="features: {numeric: [month, ▸late], categorical: [carrier]}\n",
            says='the target "late" is among the features; remove it there',
        ),
        good=Example(text="features: {numeric: [month], categorical: [carrier]}\n"),
    ),
    Rule(
        id="column-unknown",
        title="A column that neither the schema nor a transform has",
        why="Features, the target and slices are columns of the sources that need them.",
        bad=Example(
            text="features: {numeric: [month, ▸distanse], categorical: [carrier]}\n",
            says='no column "distanse" in the schema of train or in its transforms; did you mean "distance"?',
        ),
        good=Example(text="features: {numeric: [month, distance], categorical: [carrier]}\n"),
    ),
    Rule(
        id="slice",
        title="A slice that does not say which rows",
        why="A slice is a column's values, ascending ranges of a column, or a name and a condition in SQL.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [▸{sql: distance < 500}]\n",
            says="a slice by sql needs a name; add `name: ...`, by which gates and reports call it",
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [{name: short, sql: distance < 500}]\n"
        ),
    ),
    Rule(
        id="slice-column",
        title="A slice's SQL names a column that is not there",
        why="The condition reads the columns of the data that the model is judged on, after its transforms.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [{name: short, sql: ▸distanse < 500}]\n",
            says='no column "distanse" in the schema of test or in its transforms; did you mean "distance"?',
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [{name: short, sql: distance < 500}]\n"
        ),
    ),
    # -- plugins -----------------------------------------------------------------------------------------------
    Rule(
        id="plugin-unknown",
        title="A plugin that is not installed, or a class that is not there",
        why="`uses:` names an installed plugin (`engine plugins list`) or a class of the project: module:Class.",
        bad=Example(
            text="train:\n  uses: ▸sklern\n  data: train\n",
            says="no trainer plugin 'sklern'; did you mean \"sklearn\"?",
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n"),
    ),
    Rule(
        id="plugin-source",
        title="A plugin whose source does not parse",
        why="Parameters are read from the source, which is never run here.",
        bad=Example(
            text="train:\n  uses: ▸torn:Trainer\n  data: train\n",
            says="its source, torn.py:1:14: '(' was never closed; mend the Python source",
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3}\n"),
    ),
    Rule(
        id="parameter-unknown",
        title="A parameter that the plugin does not take",
        why="What stands under `with` is handed to the plugin, which has no such parameter.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, ▸los: log}\n",
            says='own:Trainer has no parameter "los"; did you mean "loss"?',
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, loss: log}\n"),
    ),
    Rule(
        id="class-unknown",
        title="A class that is not there",
        why="The plugin is given the name of a class, such as an estimator; no source that is installed has it.",
        bad=Example(
            text="train:\n  uses: sklearn\n  data: train\n"
            "  with: {estimator: ▸sklearn.ensemble.RandomForestClasifier}\n",
            says="no class in sklearn.ensemble 'RandomForestClasifier'; did you mean \"RandomForestClassifier\"?",
        ),
        good=Example(
            text="train:\n  uses: sklearn\n  data: train\n"
            "  with: {estimator: sklearn.ensemble.RandomForestClassifier}\n"
        ),
    ),
    Rule(
        id="parameter-missing",
        title="A parameter that the plugin needs",
        why="It has no default, so the plugin cannot begin without it.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  ▸with: {loss: log}\n",
            says='own:Trainer needs the parameter "depth"; write `with: {depth: ...}`',
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, loss: log}\n"),
    ),
    Rule(
        id="parameter-type",
        title="A parameter of another type",
        why="The value does not fit the annotation in the plugin's source.",
        bad=Example(
            text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, loss: ▸logs}\n",
            says="own:Trainer takes loss: Literal['log', 'square'], got \"logs\"; did you mean \"log\"?",
        ),
        good=Example(text="train:\n  uses: own:Trainer\n  data: train\n  with: {depth: 3, loss: log}\n"),
    ),
    Rule(
        id="sql-source",
        title="A query that does not read its table",
        why="`{source}` stands for the table that is transformed; a query without it reads nothing of it.",
        bad=Example(
            text='transform:\n  - {name: clean, uses: sql, data: [train, test], with: {query: ▸"select 1 as late"}}\n',
            says="the query does not read {source}, which stands for the table; write `select ... from {source}`",
        ),
        good=Example(
            text="transform:\n  - {name: clean, uses: sql, data: [train, test], with: {query: "
            '"select *, 1 as late from {source}"}}\n'
        ),
    ),
    # -- evaluation ----------------------------------------------------------------------------------------------
    Rule(
        id="metric-unknown",
        title="A metric that is not known",
        why="Metrics are Engine's own or a plugin's. Figures of the model itself, such as its size, are for gates.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [▸roc_auk]\n",
            says='no metric "roc_auk"; did you mean "roc_auc"?',
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc]\n"),
    ),
    Rule(
        id="metric-twice",
        title="A metric is listed twice",
        why="It would be computed once; the second was meant to be another.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [brier, ▸brier]\n",
            says='"brier" is here twice; remove one',
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [brier, roc_auc]\n"),
    ),
    Rule(
        id="metric-task",
        title="Metrics of tasks that exclude each other",
        why="A model either sorts rows into classes or predicts a number, and a metric is for the one or the other.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc, ▸rmse]\n",
            says='"rmse" is for quantile and regression, and those before it are not; keep those of one kind of task',
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc, brier]\n"),
    ),
    Rule(
        id="metric-plugin",
        title="A metric of the project's own that is not there, or takes too little",
        why="A metric is a function of the truth, the predicted labels, the scores and the rows' weights.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc, ▸own:cots]\n",
            says="no class or function in own.py 'cots'; did you mean \"cost\"?",
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc, own:cost]\n"),
    ),
    Rule(
        id="gate-metric",
        title="A gate on a metric that nobody computes",
        why="A gate judges a metric of evaluate.metrics, or a figure of the model: its size, latency or parity.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates: [{metric: ▸accuracy, min: 0.7}]\n",
            says='nobody computes "accuracy"; add it to evaluate.metrics',
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc, accuracy]\n  gates: [{metric: accuracy, min: 0.7}]\n"
        ),
    ),
    Rule(
        id="gate-slice",
        title="A gate on a slice that is not evaluated",
        why="A gate's slice is one of evaluate.slices.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [origin]\n"
            "  gates: [{metric: roc_auc, slice: ▸orign, min: 0.6}]\n",
            says='no slice "orign"; did you mean "origin"?',
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  slices: [origin]\n"
            "  gates: [{metric: roc_auc, slice: origin, min: 0.6}]\n"
        ),
    ),
    Rule(
        id="gate-limit",
        title="A gate without a limit, or with limits that do not go together",
        why="A gate has bounds (min, max or between), or it compares with a baseline (max_drop or min_gain).",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates: [▸{metric: roc_auc}]\n",
            says="this gate has no limit; give it min, max, between, max_drop or min_gain",
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates: [{metric: roc_auc, min: 0.6}]\n"),
    ),
    Rule(
        id="gate-range",
        title="A limit that no value of the metric can meet",
        why="Shares are between 0 and 1 and errors are not negative; a limit outside is often a percentage.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates: [{metric: roc_auc, min: ▸65}]\n",
            says="no roc_auc is at least 65: it is at most 1; write 0.65 for 65 %",
        ),
        good=Example(text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates: [{metric: roc_auc, min: 0.65}]\n"),
    ),
    Rule(
        id="gate-twice",
        title="Two gates say the same",
        why="The second can never decide anything; it was meant to be another. A warning: nothing breaks.",
        severity="warning",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [brier]\n  gates:\n    - {name: a, metric: brier, max: 0.3}\n"
            "    - ▸{name: b, metric: brier, max: 0.3}\n",
            says="this gate says what evaluate.gates.0 says; remove one of them",
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [brier]\n  gates:\n    - {name: a, metric: brier, max: 0.3}\n"
            "    - {name: b, metric: brier, max: 0.2, level: warn}\n"
        ),
    ),
    Rule(
        id="gates-contradict",
        title="Two gates that cannot both pass",
        why="No figure is above the one's lower and below the other's upper limit, so every model would be refused.",
        bad=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates:\n    - {metric: roc_auc, min: 0.65}\n"
            "    - ▸{metric: roc_auc, max: 0.6}\n",
            says="no roc_auc is at least 0.65 (evaluate.gates.0) and at most 0.6; change one of them",
        ),
        good=Example(
            text="evaluate:\n  data: test\n  metrics: [roc_auc]\n  gates:\n    - {metric: roc_auc, min: 0.65}\n"
            "    - {metric: roc_auc, max: 0.99}\n"
        ),
    ),
    # -- operation -----------------------------------------------------------------------------------------------
    Rule(
        id="performance-metric",
        title="Live performance by a metric that the test lacks",
        why="A live figure is compared with the test's, so the test has to have it.",
        bad=Example(
            text="monitor:\n  reference: train\n  performance: [{metric: ▸acuracy, min: 0.6}]\n",
            says='"acuracy" is not among evaluate.metrics; known: brier, roc_auc',
        ),
        good=Example(text="monitor:\n  reference: train\n  performance: [{metric: roc_auc, min: 0.6}]\n"),
    ),
    Rule(
        id="performance-limit",
        title="Live performance without a limit",
        why="Without min or max there is nothing to be alarmed about.",
        bad=Example(
            text="monitor:\n  reference: train\n  performance: [▸{metric: roc_auc}]\n",
            says="this has no limit; give it min or max",
        ),
        good=Example(text="monitor:\n  reference: train\n  performance: [{metric: roc_auc, min: 0.6}]\n"),
    ),
    Rule(
        id="detector-feature",
        title="A detector on a column that is no feature",
        why="A detector watches what the model reads.",
        bad=Example(
            text="monitor:\n  reference: train\n  detectors: [{name: m, uses: ks, with: {features: [▸mnth]}}]\n",
            says='no feature "mnth"; did you mean "month"?',
        ),
        good=Example(
            text="monitor:\n  reference: train\n  detectors: [{name: m, uses: ks, with: {features: [month]}}]\n"
        ),
    ),
    Rule(
        id="detector-window",
        title="A window with too few rows for its detector",
        why="A p-value that rests on large numbers is wrong in small windows, and so is the rate of false alarms.",
        bad=Example(
            text="monitor:\n  reference: train\n  detectors: [{name: m, uses: psi, window: ▸20}]\n",
            says="the p-values of psi hold for windows of at least 50 rows, and this has 20; "
            "write `window: 50` or more",
        ),
        good=Example(text="monitor:\n  reference: train\n  detectors: [{name: m, uses: psi, window: 500}]\n"),
    ),
    Rule(
        id="false-alarms",
        title="A budget of false alarms that is no rate",
        why="Every test errs now and then; the budget says how often the alarms of a model may, all of them together.",
        bad=Example(
            text="monitor:\n  reference: train\n  false_alarms: ▸1 a month\n"
            "  detectors:\n    - {name: inputs, uses: ks}\n",
            says='"1 a month" is no number of false alarms in a time; '
            "write it as `1 per 30 days` or `1 per 100 windows`",
        ),
        good=Example(
            text="monitor:\n  reference: train\n  false_alarms: 1 per month\n"
            "  detectors:\n    - {name: inputs, uses: ks}\n"
        ),
    ),
    Rule(
        id="objective",
        title="A sweep compares by a metric that runs do not have",
        why="The objective is one of evaluate.metrics.",
        bad=Example(
            text="sweep: {objective: ▸roc_auk}\n",
            says='"roc_auk" is not among evaluate.metrics; did you mean "roc_auc"?',
        ),
        good=Example(text="sweep: {objective: roc_auc}\n"),
    ),
)
"""All rules, in the order in which a person would read the spec."""
