"""Open an issue about a refusal or a failure, through the command line of GitHub (gh) or GitLab (glab).

What an issue is about is its fingerprint, which stands in its body as a comment: while one with it is open, no second
one is made. Whoever has something to say builds an :class:`Issue` and calls :func:`open_issue`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.digest import digest_of
from engine.errors import Failed, UsageError, suggestion
from engine.report.clean import terminal
from engine.report.facts import facts
from engine.report.markdown import for_issue
from engine.report.model import Facts, Report

SECONDS = 60
LONGEST_TITLE = 200
LONGEST_BODY = 60_000
"""Bytes; GitHub takes 65,536 characters, and a command line 128 KiB in one word."""

RECENT = 100
LABEL = "engine"
QUIET = {
    "GH_PROMPT_DISABLED": "1",
    "GH_NO_UPDATE_NOTIFIER": "1",
    "NO_PROMPT": "1",
    "GLAB_CHECK_UPDATE": "false",
    "NO_COLOR": "1",
}
"""What keeps both tools from asking and from looking for news of themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Issue:
    """What is to be said. ``body`` is Markdown in which data is escaped; ``fingerprint`` is what it is about."""

    title: str
    body: str
    fingerprint: str
    labels: tuple[str, ...] = (LABEL,)

    @property
    def marker(self) -> str:
        """The comment in the body that an issue is known again by."""
        return f"<!-- engine-fingerprint: {self.fingerprint} -->"

    @property
    def text(self) -> str:
        """The whole body, as long as the services take it; the marker is never cut off."""
        kept = self.body.encode()[:LONGEST_BODY].decode(errors="ignore")
        return f"{kept.rstrip()}\n\n{self.marker}\n"

    def is_in(self, body: str) -> bool:
        """Whether an issue with this body is about the same: data never has a line to itself."""
        return any(line.strip() == self.marker for line in body.splitlines())


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """An issue's address, and whether it is a new one."""

    address: str
    new: bool


# -- what a run has to say ---------------------------------------------------------------------------------------------


def issue_of(report: Report, job: str = "") -> Issue | None:
    """The issue about a run that was refused or failed; none about one that passed.

    Which gates refuse, or which step failed how, makes the fingerprint: neither figures nor run ids do.

    Args:
        job: the address of the CI job.
    """
    said = facts(report)
    if said.status == "passed":
        return None
    about = subjects(said)
    link = f"\n\n[The job]({job})" if job.startswith("https://") and not set(job) & set("()<> \n") else ""
    return Issue(
        title=terminal(f"{said.name}: {headline(said)}")[:LONGEST_TITLE],
        body=f"{for_issue(report).rstrip()}{link}",
        fingerprint=digest_of([said.status, said.name, *about]),
        labels=(LABEL, f"{LABEL}-{said.status}"),
    )


def subjects(said: Facts) -> list[str]:
    """The gates that refuse, or the step that failed and its error's code."""
    if said.status == "refused":
        return sorted(gate.name for gate in said.gates if gate.mark == "refuse")
    return [said.fault.step, said.fault.code] if said.fault else []


def headline(said: Facts) -> str:
    """What happened, in a few words."""
    about = subjects(said)
    if said.status == "refused":
        return f"refused by gate {about[0]}" if len(about) == 1 else f"refused by {len(about)} gates"
    return f"step {about[0]} failed" if about and about[0] else "the run failed"


# -- the services ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """A command line: how to list open issues (of a fingerprint, or the newest) and how to make one.

    ``create`` gives the arguments and what to write to standard input.
    """

    tool: str
    install: str
    search: Callable[[str], Sequence[str]]
    create: Callable[[Issue, bool], tuple[Sequence[str], str]]
    keys: tuple[str, str]
    labels: Callable[[str], Sequence[str]] | None = None


def gh_list(fingerprint: str) -> Sequence[str]:
    """Open issues of GitHub."""
    found = [f'--search="{fingerprint}" in:body'] if fingerprint else []
    return ["issue", "list", "--state=open", f"--limit={RECENT}", "--json=url,body", *found]


def gh_create(issue: Issue, labelled: bool) -> tuple[Sequence[str], str]:
    """A new issue of GitHub; the body comes on standard input."""
    labels = [f"--label={label}" for label in issue.labels] if labelled else []
    return ["issue", "create", f"--title={issue.title}", "--body-file=-", *labels], issue.text


def gh_label(label: str) -> Sequence[str]:
    """A label of GitHub, where an issue can only have one that exists."""
    return ["label", "create", label, "--description=Opened by engine run"]


def glab_list(fingerprint: str) -> Sequence[str]:
    """Open issues of GitLab."""
    found = [f"--search={fingerprint}", "--in=description"] if fingerprint else []
    return ["issue", "list", f"--per-page={RECENT}", "--output=json", *found]


def glab_create(issue: Issue, labelled: bool) -> tuple[Sequence[str], str]:
    """A new issue of GitLab, which makes labels as they come."""
    labels = [f"--label={label}" for label in issue.labels] if labelled else []
    return ["issue", "create", f"--title={issue.title}", f"--description={issue.text}", *labels, "--yes"], ""


GITHUB = Service(
    tool="gh", install="https://cli.github.com", search=gh_list, create=gh_create, keys=("url", "body"), labels=gh_label
)
GITLAB = Service(
    tool="glab",
    install="https://gitlab.com/gitlab-org/cli",
    search=glab_list,
    create=glab_create,
    keys=("web_url", "description"),
)
SERVICES: Mapping[str, Service] = {"gh": GITHUB, "github": GITHUB, "glab": GITLAB, "gitlab": GITLAB}


def parse_service(name: str) -> Service:
    """The service that ``issue=NAME`` means, when its command line is installed.

    Raises:
        UsageError: for an unknown service, and for a tool that is not there.
    """
    found = SERVICES.get(name)
    if found is None:
        near = suggestion(name, SERVICES)
        raise UsageError(f"no issue service {name!r}", place="--report", hint=f"{near}; write issue=gh or issue=gitlab")
    if shutil.which(found.tool) is None:
        raise UsageError(f"{found.tool} is not installed", place=f"--report issue={name}", hint=f"see {found.install}")
    return found


def open_issue(issue: Issue, service: Service, folder: Path) -> Opened:
    """Open ``issue`` unless one with its fingerprint is open; ``folder`` is in a clone of the repository.

    Raises:
        Failed: when the tool cannot be run or refuses, with what it says.
    """
    for fingerprint in (issue.fingerprint, ""):  # the newest as well: a search may not know of them yet
        for address, body in listed(service, fingerprint, folder):
            if issue.is_in(body):
                return Opened(address=address, new=False)
    if service.labels is not None:
        for label in issue.labels:
            said(service, service.labels(label), folder)  # it may be there already, or may not be ours to make
    done = create(issue, service, folder, labelled=True)
    if done.returncode != 0 and "label" in done.stderr.lower():
        done = create(issue, service, folder, labelled=False)
    if done.returncode != 0:
        raise refused(service, done)
    lines = [line.strip() for line in done.stdout.splitlines() if "://" in line]
    return Opened(address=terminal(lines[-1]) if lines else "", new=True)


def create(issue: Issue, service: Service, folder: Path, *, labelled: bool) -> subprocess.CompletedProcess[str]:
    """What the tool says to a new issue."""
    arguments, given = service.create(issue, labelled)
    return said(service, arguments, folder, given)


def listed(service: Service, fingerprint: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The address and the body of open issues."""
    done = said(service, service.search(fingerprint), folder)
    if done.returncode != 0:
        raise refused(service, done)
    address, body = service.keys
    for item in as_list(done.stdout, service):
        if isinstance(item, dict):
            yield terminal(str(item.get(address) or "")), str(item.get(body) or "")


def as_list(text: str, service: Service) -> list[Any]:
    """The tool's answer; an empty one is an empty list.

    Raises:
        Failed: when it is no JSON list.
    """
    try:
        found = json.loads(text) if text.strip() else []
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise Failed(f"{service.tool} did not list issues as JSON", place="--report issue", hint="update it")
    return found


def said(service: Service, arguments: Sequence[str], folder: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """What the tool answers; it asks nothing.

    Raises:
        Failed: when it cannot be run, or does not answer in time.
    """
    try:
        return subprocess.run(  # noqa: S603
            [service.tool, *arguments],
            cwd=folder,
            input=given,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            check=False,
            env={**os.environ, **QUIET},
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{service.tool} did not answer in {SECONDS} seconds", place="--report issue") from error
    except OSError as error:
        raise Failed(f"{service.tool} cannot be run: {error.strerror}", place="--report issue") from error


def refused(service: Service, done: subprocess.CompletedProcess[str]) -> Failed:
    """The tool's complaint in its own words."""
    words = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    hint = f"try `{service.tool} auth status`; in CI give the job a token that may write issues"
    return Failed(f"{service.tool}: {terminal(words[0]).strip()}", place="--report issue", hint=hint)
