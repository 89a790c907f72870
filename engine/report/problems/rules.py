"""The table of rules as documentation: a page by ``make docs``, one rule by ``engine validate --explain RULE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from engine.errors import UsageError, suggestion
from engine.spec.rules import BASE, HERE, RULES, Example, Rule, plain

INTRODUCTION = """\
# Rules

What `engine validate` looks at, made from the table in `engine/spec/rules.py` by `make docs`. Each rule has an id that
never changes, and two examples: one that breaks it, with what is said of it and where, and one that keeps it.

The examples are parts of this spec: what an example shows replaces the section of that name.

"""


def page() -> str:
    """All rules in Markdown."""
    listed = "\n".join(f"- [{rule.id}](#{rule.id}): {rule.title}" for rule in RULES)
    chapters = "\n".join("\n".join(chapter(rule)) for rule in RULES)
    return f"{INTRODUCTION}{fenced(BASE)}\n\n{listed}\n\n{chapters}"


def chapter(rule: Rule) -> Iterator[str]:
    """One rule."""
    yield f"## {rule.id}\n"
    kind = "" if rule.severity == "error" else f" ({rule.severity})"
    yield f"{rule.title}{kind}. {rule.why}\n"
    yield f"Breaks it:\n\n{example(rule.bad)}\n"
    yield f"Keeps it:\n\n{example(rule.good)}\n"


def explained(name: str) -> str:
    """One rule in Markdown, with the spec that its examples are parts of.

    Raises:
        UsageError: when there is no such rule.
    """
    return "\n".join([*chapter(named(name)), f"The examples are parts of this spec:\n\n{fenced(BASE)}"]) + "\n"


def document(name: str) -> dict[str, str]:
    """One rule for programs.

    Raises:
        UsageError: when there is no such rule.
    """
    rule = named(name)
    return {
        "rule": rule.id, "severity": rule.severity, "title": rule.title, "why": rule.why, "help": rule.anchor,
        "breaks": plain(rule.bad.text), "says": rule.bad.says, "keeps": plain(rule.good.text),
    }  # fmt: skip


def named(name: str) -> Rule:
    """The rule with an id."""
    for rule in RULES:
        if rule.id == name:
            return rule
    raise UsageError(f"no rule {name!r}", place="--explain", hint=suggestion(name, [rule.id for rule in RULES]))


def example(shown: Example) -> str:
    """An example with a caret and the message below the line that it is about, and its overrides."""
    if shown.command:
        said = f"\n{shown.says}" if shown.says else ""
        return fenced(f"$ {shown.text}{said}", "console")
    lines = [part for line in shown.text.splitlines() for part in marked(line, shown.says)]
    given = f"# engine validate model.yaml -- {' '.join(shown.overrides)}" if shown.overrides else ""
    about = f"# {shown.says}" if shown.says and HERE not in shown.text else ""
    return fenced("\n".join(part for part in (given, *lines, about) if part))


def marked(line: str, says: str) -> Iterator[str]:
    """A line; below the one with the mark, a comment that points at it."""
    yield plain(line)
    if HERE in line:
        column = line.index(HERE)
        yield f"#{' ' * (column - 1)}^" if column else "# ^ at the first column"
        yield f"# {says}"


def fenced(text: str, language: str = "yaml") -> str:
    """A block of code."""
    return f"```{language}\n{text.rstrip()}\n```"


if __name__ == "__main__":
    sys.stdout.write(page())
