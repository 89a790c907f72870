"""The plan as a live tree on a terminal. Rich is imported here, and only where somebody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text
from rich.tree import Tree as RichTree

from engine.cli import view
from engine.execute.protocol import StepEvent, StepOutcome
from engine.plan.model import Plan, Step
from engine.plan.render import SECTIONS, section_of
from engine.report.clean import terminal

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
MARKS = {"ran": ("✓", "green"), "cached": ("≡", "cyan"), "skipped": ("-", "dim"), "failed": ("✗", "bold red")}
TICKS = 8


class Tree:
    """The plan as a tree that changes while its steps run."""

    def __init__(self, plan: Plan, settled: Mapping[str, StepOutcome]) -> None:
        self.plan = plan
        self.over: dict[str, StepOutcome] = dict(settled)
        self.since: dict[str, float] = {}
        self.begun = time.monotonic()
        self.shown = False
        self.live = Live(
            console=Console(file=sys.stderr, color_system="auto" if view.coloured(sys.stderr) else None),
            get_renderable=self.render,
            refresh_per_second=TICKS,
            transient=True,
        )

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.shown:
            self.live.stop()
            self.live.console.print(self.render())

    def hear(self, event: StepEvent) -> None:
        """Note what happened; the picture is drawn by its own clock. Nothing is drawn before something happens."""
        if event.what == "waits":
            view.note(event.text)
            return
        if not self.shown:
            self.shown = True
            self.live.start()
        if event.outcome is not None:
            self.over[event.id] = event.outcome
        elif event.what == "started":
            self.since[event.id] = time.monotonic()

    def render(self) -> RichTree:
        """The tree as it stands now."""
        head = Text.assemble((self.plan.name, "bold"), ("  run ", "dim"), (self.plan.run_id[:12], "cyan"))
        head.append(f"  {time.monotonic() - self.begun:.1f} s", "dim")
        tree = RichTree(head, guide_style="dim")
        for name, _ in SECTIONS:
            steps = [step for step in self.plan.steps if section_of(step) == name]
            branch = tree.add(Text(name, "bold")) if steps else None
            for step in steps:
                if branch is not None:
                    branch.add(self.leaf(step))
        return tree

    def leaf(self, step: Step) -> Text:
        """One step: its mark, its name, how long it took or has taken so far."""
        width = max(len(item.id) for item in self.plan.steps)
        outcome = self.over.get(step.id)
        label = terminal(step.id)
        if outcome is not None:
            mark, style = MARKS[outcome.status]
            spent = f"{outcome.seconds:.1f} s" if outcome.status == "ran" else outcome.status
            return Text.assemble((f"{mark} ", style), (f"{label:<{width}} ", ""), (f"{spent:>8}", "dim"))
        since = self.since.get(step.id)
        if since is None:
            return Text.assemble(("· ", "dim"), (label, "dim"))
        turn = SPINNER[int(time.monotonic() * TICKS) % len(SPINNER)]
        spent = f"{time.monotonic() - since:.1f} s"
        return Text.assemble((f"{turn} ", "yellow"), (f"{label:<{width}} ", "bold"), (f"{spent:>8}", "yellow"))
