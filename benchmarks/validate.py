"""Checking a spec beside Metaflow's ``check`` of a flow, and beside what Hydra says of the same broken specs.

    .venv/bin/python benchmarks/validate.py [--rounds 7] [--only speed|answers] [--all]

Commands are timed from their start to their end, in turn. What is new is given an override, or a file, that was never
given before, so that nothing of it is kept in ENGINE_HOME; ``again`` is given the same one each time. Hydra is given
the spec's types as a structured config, so that it refuses what it can; ``--all`` prints both answers on every broken
spec of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from peers import ROOT, Table, alternate, command, compile_ours, environment, scratch

METAFLOW = ("metaflow==2.19.39",)
SPEC = "specs/model.yaml"
ENGINE = (sys.executable, "-m", "engine.cli.main", "validate")
PROMISED = {
    "composed by Hydra": 0.5,
    "nothing to compose": 0.5,
    "composed again": 1.0,
    "nothing to compose, again": 1.0,
}
FURTHER = 20
FLOW = """
from metaflow import FlowSpec, Parameter, step


class LateArrivals(FlowSpec):
    seed = Parameter("seed", default=7)

    @step
    def start(self):
        self.next(self.transform)

    @step
    def transform(self):
        self.next(self.train)

    @step
    def train(self):
        self.next(self.evaluate)

    @step
    def evaluate(self):
        self.next(self.end)

    @step
    def end(self):
        pass


if __name__ == "__main__":
    LateArrivals()
"""


# -- speed -------------------------------------------------------------------------------------------------


def speed(rounds: int) -> None:
    """The commands, in turn."""
    python = environment("metaflow", *METAFLOW)
    compile_ours()
    seeds, fresh = itertools.count(1000), itertools.count()
    many = [f"specs/copy{index}.yaml" for index in range(FURTHER)]
    works: dict[str, Callable[[], list[object]]] = {
        "metaflow": lambda: [python, "flow.py", "check"],
        "composed by Hydra": lambda: [*ENGINE, SPEC, "--", f"seed={next(seeds)}"],
        "composed again": lambda: [*ENGINE, SPEC, "--", "seed=8"],
        "nothing to compose": lambda: [*ENGINE, f"specs/new{next(fresh)}.yaml"],
        "nothing to compose, again": lambda: [*ENGINE, SPEC],
        "many, composed": lambda: [*ENGINE, SPEC, *many, "--", f"seed={next(seeds)}"],
        "many, again": lambda: [*ENGINE, SPEC, *many],
    }
    seen: dict[str, list[float]] = {work: [] for work in works}
    with scratch() as folder, variables(METAFLOW_USER="bench", ENGINE_HOME=str(folder / ".engine")):
        project(folder, rounds + 1)
        for words in works.values():  # once, for the disk's cache
            command(*words(), cwd=folder)
        for _, work in alternate(list(works), rounds):
            seen[work].append(command(*works[work](), cwd=folder))
    show(seen)


def project(folder: Path, rounds: int) -> None:
    """The sample spec with its schema, copies of it, and a flow; and a home."""
    (folder / ".engine").mkdir()
    shutil.copytree(ROOT / "specs", folder / "specs")
    (folder / "pyproject.toml").write_text("")
    (folder / "flow.py").write_text(FLOW)
    text = (folder / SPEC).read_text()
    for index in range(rounds):
        (folder / f"specs/new{index}.yaml").write_text(text.replace("late-arrivals", f"new-arrivals-{index}"))
    for index in range(FURTHER):
        (folder / f"specs/copy{index}.yaml").write_text(text.replace("late-arrivals", f"late-arrivals-{index}"))


def show(seen: Mapping[str, list[float]]) -> None:
    """The table, and what a further spec of the same call costs."""
    table = Table(title="engine validate beside metaflow check: Metaflow's time to ours")
    for work in PROMISED:
        for ours, theirs in zip(seen[work], seen["metaflow"], strict=True):
            table.add("engine", {work: ours})
            table.add("metaflow", {work: theirs})
    table.show(PROMISED)
    for many, one in (("many, composed", "composed by Hydra"), ("many, again", "nothing to compose, again")):
        each = (statistics.median(seen[many]) - statistics.median(seen[one])) / FURTHER
        print(f"  each further spec, {one}: {each * 1000:.0f} ms   promised at most 150 ms")


@contextlib.contextmanager
def variables(**given: str) -> Iterator[None]:
    """Inside, these environment variables are set: Metaflow wants to know who asks, and we where our home is."""
    before = dict(os.environ)
    os.environ.update(given)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# -- answers -------------------------------------------------------------------------------------------------

EXAMPLES = (
    "keys: at the top",
    "keys: in a gate",
    "keys: a seed that is text",
    "composed: a group's option with a typo",
    "composed: an override with a typo",
    "gates: a metric with a typo",
)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is said of a broken spec: whether it is refused, with its place, and with the name that was meant."""

    text: str
    refused: bool
    placed: bool
    meant: bool


def answers(*, all_of_them: bool) -> None:
    """Ours and Hydra's on every broken spec of the tests."""
    sys.path[:0] = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "tests")]
    from errors import test_specs as corpus

    with fresh(corpus) as root:
        (root / "spec.yaml").write_text(corpus.BASE)
        if refused := hydra_says(root, ()):
            raise SystemExit(f"Hydra refuses the good spec: {refused}")
    cases = {name: case for name, case in corpus.CASES.items() if case["says"]}
    typos = [name for name, case in cases.items() if "meant" in case]
    given = {name: both(corpus, case) for name, case in cases.items()}
    print(f"\n{len(cases)} broken specs, {len(typos)} of them with a typing error")
    for side, name in enumerate(("engine", "hydra")):
        every = [pair[side] for pair in given.values()]
        print(
            f"  {name:<8} refuses or warns {sum(one.refused for one in every):>4}"
            f"   with line or override {sum(one.refused and one.placed for one in every):>4}"
            f"   names what was meant {sum(given[typo][side].meant for typo in typos):>3} of {len(typos)}"
        )
    for name in cases if all_of_them else EXAMPLES:
        ours, theirs = given[name]
        print(f"\n{name}\n  engine  {indented(ours.text)}")
        print(f"  hydra   {indented(theirs.text or '(accepts it)')}")


@contextlib.contextmanager
def fresh(corpus: Any) -> Iterator[Path]:
    """A project with everything that the broken specs name."""
    with tempfile.TemporaryDirectory() as folder:
        yield corpus.folder._get_wrapped_function()(Path(folder))


def both(corpus: Any, case: Mapping[str, Any]) -> tuple[Answer, Answer]:
    """Our answer and Hydra's."""
    overrides = case.get("overrides", ())
    with fresh(corpus) as root:
        found = corpus.problems(root, case)
        ours = Answer(
            text="\n".join(str(problem) for problem in found),
            refused=bool(found),
            placed=all(problem.place.line or problem.place.file.startswith("override") for problem in found),
            meant=case.get("meant") in [getattr(problem.hint, "nearest", None) for problem in found],
        )
        said = hydra_says(root, overrides)
    place = re.search(r"line \d+|\.yaml:\d+", said) or any(text in said for text in overrides)
    return ours, Answer(text=said, refused=bool(said), placed=bool(place), meant=f"{case.get('meant')}" in said)


def indented(text: str) -> str:
    """A text of several lines below its first."""
    return text.strip().replace("\n", "\n          ")


def hydra_says(root: Path, overrides: Sequence[str]) -> str:
    """Hydra's own answer, with the spec's types as a structured config; empty when it accepts the spec."""
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from engine.spec.model import Spec

    ConfigStore.instance().store(name="types", node=structured(Spec))
    path = root / "spec.yaml"
    text = path.read_text()
    listed = "defaults: [" in text
    path.write_text(text.replace("defaults: [", "defaults: [types, ") if listed else f"{HEAD}{text}")
    try:
        with initialize_config_dir(config_dir=str(root), version_base="1.3"):
            OmegaConf.to_container(compose("spec", overrides=list(overrides)), resolve=True)
    except Exception as error:  # whatever it is, it is what a person sees
        return f"{type(error).__name__}: {error}" + (f"\n{error.__cause__}" if error.__cause__ else "")
    return ""


HEAD = "defaults: [types, _self_]\n"


def structured(section: Any) -> Any:
    """A section of the spec as a class for Hydra: made by hand, because `with` is no name in Python."""
    keys = {info.alias or name: field_type(info) for name, info in section.model_fields.items()}
    made = type(section.__name__, (), {"__annotations__": keys, **dict.fromkeys(keys, "???")})
    return dataclasses.dataclass(init=False, repr=False, eq=False)(made)


def field_type(info: Any) -> Any:
    """A field's type; anything where the spec reads a text as something else, such as 2GiB."""
    return Any if reads_text(info.metadata) else type_of(info.annotation)


def reads_text(metadata: Sequence[object]) -> bool:
    """Whether values are converted before they are checked."""
    return any(type(item).__name__ == "BeforeValidator" for item in metadata)


def type_of(annotation: Any) -> Any:
    """A type as OmegaConf can check it; anything where it cannot."""
    members = [member for member in get_args(annotation) if member is not type(None)]
    origin = get_origin(annotation)
    if annotation in (str, int, float, bool):
        return annotation
    if isinstance(annotation, type) and hasattr(annotation, "model_fields"):
        return structured(annotation)
    if origin is Annotated:
        return Any if reads_text(annotation.__metadata__) else type_of(members[0])
    if origin is tuple and members[1:] == [Ellipsis]:
        return list[type_of(members[0])]  # type: ignore[misc]
    if origin is abc.Mapping:
        return dict[str, type_of(members[1])]  # type: ignore[misc]
    if origin in (Union, UnionType) and len(members) == 1:
        inner = type_of(members[0])
        return Any if inner is Any else inner | None
    return Any


def main() -> None:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("speed", "answers"))
    parser.add_argument("--all", action="store_true", help="print both answers on every broken spec")
    asked = parser.parse_args()
    if asked.only != "answers":
        speed(asked.rounds)
    if asked.only != "speed":
        answers(all_of_them=asked.all)


if __name__ == "__main__":
    main()
