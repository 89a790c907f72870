"""What a watch knows, as Prometheus scrapes it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.monitor.model import Figure, Raised, Stream

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Gauge

STREAM = ("model", "version", "alias", "slice")


class Board:
    """Gauges and counters of all models that one process watches. Alarms are counted since it was started."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry

        self.registry: CollectorRegistry = CollectorRegistry()
        test = (*STREAM, "detector", "feature")
        self.windows = self._counter("windows", "Windows that were judged.", STREAM)
        self.rows = self._counter("rows", "Rows in windows that were judged.", STREAM)
        self.late = self._counter("late_rows", "Rows that came after their window was closed.", STREAM)
        self.alarms = self._counter("alarms", "Alarms.", (*STREAM, "signal"))
        self.p_value = self._gauge("p_value", "Of the last window: a feature's test.", test)
        self.distance = self._gauge("distance", "Of the last window: its statistic.", test)
        self.drifted = self._gauge("drift", "Whether the last window drifted.", STREAM)
        said = "Of the last window: the share of rows that break the schema."
        self.violations = self._gauge("schema_violations", said, STREAM)
        said = "A metric: test, estimated or live (of the last window with labels)."
        self.metric = self._gauge("metric", said, (*STREAM, "kind", "metric", "window"))
        said = "The share of the last window's rows that have a label."
        self.coverage = self._gauge("label_coverage", said, (*STREAM, "window"))
        self.messages = self._counter("messages", "Messages to webhooks.", ("model", "outcome"))
        self.retrainings = self._counter("retrainings", "Retrainings.", ("model", "status"))
        self.damaged = self._gauge("damaged_files", "Files that could not be read.", ("model",))
        self.trouble = self._gauge("trouble", "Whether a model cannot be watched.", ("model",))
        self.looked = self._gauge("last_look_seconds", "When something was last heard, in seconds since 1970.", ())

    def _counter(self, name: str, said: str, labels: Sequence[str]) -> Counter:
        from prometheus_client import Counter

        return Counter(f"engine_monitor_{name}", said, labels, registry=self.registry)

    def _gauge(self, name: str, said: str, labels: Sequence[str]) -> Gauge:
        from prometheus_client import Gauge

        return Gauge(f"engine_monitor_{name}", said, labels, registry=self.registry)

    def figure(self, figure: Figure) -> None:
        """A test for drift, or the share of rows that break the schema, is the last of its kind now."""
        labels = labels_of(figure.stream)
        if figure.value is None:
            return
        if figure.kind == "drift":
            beside = {"detector": figure.detector, "feature": figure.feature}
            if figure.metric == "p_value":
                self.p_value.labels(**labels, **beside).set(figure.value)
            if figure.distance is not None:
                self.distance.labels(**labels, **beside).set(figure.distance)
        elif figure.kind == "schema":
            self.violations.labels(**labels).set(figure.value)

    def rows_of(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Test, estimated and live metrics from the table's rows; of several windows the last one's."""
        for row in sorted(rows, key=lambda item: str(item["window_start"] or "")):
            if row["kind"] in ("drift", "schema") or row["value"] is None:
                continue
            labels = {name: str(row[name]) for name in STREAM}
            if row["metric"] == "coverage":
                self.coverage.labels(**labels, window=row["window"]).set(row["value"])
            else:
                beside = {"kind": row["kind"], "metric": row["metric"], "window": row["window"]}
                self.metric.labels(**labels, **beside).set(row["value"])

    def window(self, stream: Stream, rows: int, late: int, *, drifted: bool) -> None:
        """A window was judged."""
        labels = labels_of(stream)
        self.windows.labels(**labels).inc()
        self.rows.labels(**labels).inc(rows)
        self.late.labels(**labels).inc(late)
        self.drifted.labels(**labels).set(drifted)

    def alarm(self, raised: Raised) -> None:
        """There is an alarm."""
        self.alarms.labels(**labels_of(raised.stream), signal=raised.signal).inc()

    def text(self) -> bytes:
        """The exposition."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def serve(self, port: int, host: str = "127.0.0.1") -> tuple[int, threading.Thread]:
        """Answer ``GET /metrics`` in a thread; the port, which is a free one for 0.

        Raises:
            OSError: when the port is taken.
        """
        from prometheus_client import start_http_server

        server, thread = start_http_server(port, addr=host, registry=self.registry)
        return int(server.server_port), thread


def labels_of(stream: Stream) -> Mapping[str, str]:
    """A stream as labels."""
    return {"model": stream.model, "version": str(stream.version), "alias": stream.alias, "slice": stream.slice}
