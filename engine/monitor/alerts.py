"""What an alarm starts: a line in the log, a message to a webhook, a retraining; each at most once, and none is lost.

What is to be sent stands in the outbox in the same transaction as the alarm, and leaves it when the receiver has taken
it. A receiver that is down gets it later: it is tried again after 10 seconds, then after twice as long each time up to
15 minutes, for a week. An alarm that says what one has said within the cool-down is entered, and not announced.

A message is signed when the spec has a ``signing_key``: ``engine-signature: t=SECONDS,v1=HEX`` where HEX is the
HMAC-SHA-256 of ``SECONDS.BODY``. ``engine-alarm`` is the alarm's id: who gets the same one twice has it already.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from engine.digest import canonical_json, plain
from engine.errors import EngineError
from engine.monitor.model import Origin, Raised
from engine.monitor.table import Change, Table
from engine.monitor.windows import micros, moment_at

WEBHOOK = "webhook"
FIRST, LONGEST = timedelta(seconds=10), timedelta(minutes=15)
GIVEN_UP = timedelta(days=7)
COOLDOWN = 3600.0
RETRAIN_COOLDOWN, RETRAIN_LIMIT = 86_400.0, 1
DAY = timedelta(days=1)

Headers = Sequence[tuple[str, str]]
Post = Callable[[str, bytes, Headers], tuple[int, str]]
"""Sends a body to a URL: (url, body, headers) -> (status, text).

It raises an :class:`~engine.errors.EngineError` when nobody answers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """What came of a message: whether it was taken, and else why not and when it is tried again."""

    alarm: str
    done: bool
    outcome: str
    again: datetime | None = None


def announce(
    change: Change,
    raised: Raised,
    origin: Origin,
    wishes: Mapping[str, Any],
    now: datetime,
    environment: Mapping[str, str],
) -> bool:
    """Enter an alarm, and what it starts; whether it is to be told now.

    Args:
        wishes: the part ``on_alert`` of the spec.
        environment: where the variables that it names are read.
    """
    cooldown = float(wishes.get("cooldown") or COOLDOWN)
    tell = not change.announced_between(raised.key, now - timedelta(seconds=cooldown), now)
    if not change.raise_alarm(raised, now, announced=tell) or not tell:
        return False
    if is_set(wishes.get("webhook"), environment):
        change.post(raised.id, WEBHOOK, body_of(raised, origin), now)
    if wishes.get("retrain") and raised.signal != "schema":
        change.note_retraining(raised.id, raised.stream.model, now, wanted(change, raised, wishes["retrain"], now))
    return True


def wanted(change: Change, raised: Raised, wish: Any, now: datetime) -> dict[str, Any]:
    """That a retraining is wanted; or that it is held back, and why."""
    options = wish if isinstance(wish, Mapping) else {}
    limit, cooldown = int(options.get("limit") or RETRAIN_LIMIT), float(options.get("cooldown") or RETRAIN_COOLDOWN)
    model = raised.stream.model
    if change.retraining_pends(model):
        return {"status": "held back", "reason": "another one is not over"}
    if change.retrainings_between(model, now - timedelta(seconds=cooldown), now):
        return {"status": "held back", "reason": f"another one began less than {cooldown / 3600:g} hours ago"}
    if change.retrainings_between(model, now - DAY, now) >= limit:
        return {"status": "held back", "reason": f"{limit} began within a day, which is the limit"}
    return {"status": "wanted", "alias": options.get("alias") or "candidate"}


def body_of(raised: Raised, origin: Origin) -> bytes:
    """An alarm as a receiver gets it: all of it, with the versions of model, run, code and data, as JSON."""
    window = raised.window
    return canonical_json(
        {
            "alarm": raised.id,
            **asdict(raised.stream),
            "signal": raised.signal,
            "text": raised.text,
            "features": list(raised.features),
            "window": {
                "size": window.size, "start": window.start.isoformat(), "end": window.end.isoformat(),
                "rows": window.rows,
            },
            "run": origin.run,
            "code": {"commit": origin.code_commit, "digest": origin.code_digest},
            "data": {name: dict(pin) for name, pin in origin.data.items()},
            "detail": plain(raised.detail),
        }
    )  # fmt: skip


def is_set(written: Any, environment: Mapping[str, str]) -> bool:
    """Whether a secret field of the spec has a value, or will have: `${oc.env:NAME,null}` has none without NAME."""
    if isinstance(written, Mapping) and written.get("optional"):
        return bool(secret_value(written, environment))
    return bool(written)


def signature(secret: str, body: bytes, moment: datetime) -> str:
    """What shows a receiver that a message is ours and when it was sent."""
    at = str(micros(moment) // 1_000_000)
    made = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={made}"


def deliver(
    table: Table, model: str, post: Post, address: Callable[[int], tuple[str, str]], now: datetime
) -> Iterator[Sent]:
    """Send what is due; what is not taken is due again later.

    Args:
        address: the URL and the signing key of a version's alarms.
    """
    for item in table.outbox(model):
        if item["done"] is not None or not is_due(item["due"], now):
            continue
        url, secret = address(int(item["version"]))
        headers = [("engine-alarm", item["alarm"])]
        if secret:
            headers.append(("engine-signature", signature(secret, item["body"], now)))
        done, outcome = sent(post, url, item["body"], headers)
        again = None if done else next_try(item, now)
        with table.change() as change:
            change.sent(item["alarm"], item["target"], outcome, due=again, moment=now)
        yield Sent(alarm=item["alarm"], done=done, outcome=outcome, again=again)


def is_due(due: int, now: datetime) -> bool:
    """Whether a message is to be sent now; one that is due later than it can be was put off before the clock went back.

    Args:
        due: microseconds since 1970.
    """
    return due <= micros(now) or due > micros(now + LONGEST)


def sent(post: Post, url: str, body: bytes, headers: Headers) -> tuple[bool, str]:
    """Try once; whether it was taken, and what was said."""
    if not url:
        return False, "the webhook's variable is not set"
    try:
        status, _ = post(url, body, headers)
    except EngineError as error:
        return False, error.fact
    return 200 <= status < 300, f"answered with {status}"


def next_try(item: Mapping[str, Any], now: datetime) -> datetime | None:
    """When a message that was not taken is sent again; never when it is a week old."""
    wait: timedelta = min(FIRST * 2 ** min(int(item["attempts"]), 20), LONGEST)
    first = item.get("raised")
    if first is not None and now - moment_at(first) > GIVEN_UP:
        return None
    return now + wait


def secret_value(written: Any, environment: Mapping[str, str]) -> str:
    """What a field of the spec that is a secret means: the variable that it names, read now; empty for nothing."""
    if isinstance(written, Mapping):
        return environment.get(str(written.get("env")), str(written.get("default") or ""))
    return str(written or "")
