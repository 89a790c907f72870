"""alibi-detect's online detectors: they look at each row as it comes, and alarm without a change once in ``ert`` rows.

Their thresholds are simulated when they are fitted, by the run's seed, and stored; a restored detector has the same.
What is known of a stream is JSON, so that another process goes on with the same alarms. After an alarm a detector
begins anew, as alibi's users are told to make it do.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from scipy import stats

from engine.plugins import Count, DriftVerdict, Feature, PluginFailed
from engine_plugins.alibi.detectors import LARGEST, Cell, second_of
from engine_plugins.alibi.library import at_work, part, with_torch
from engine_plugins.alibi.rows import aligned, encoding_of, seeded, stored_encoding, torch_seeded
from engine_plugins.alibi.whole import WHOLE_ROW
from engine_plugins.drift.columns import (
    AnyArray,
    FloatArray,
    Role,
    categories,
    chosen,
    codes,
    described,
    require_option,
    require_seen,
    restored,
    sampled,
    with_holes,
)

WINDOWS = (20, 40)
STREAMS = 10
FEWEST = 2
LEAST_STREAMS = 10_000
MOST_STREAMS = 500_000
LEAST_WINDOW = 2
AT_ONCE = 2_000

Rows = Callable[[pa.Table, int], AnyArray]


class Chart(ABC):
    """One of alibi's detectors with its thresholds, and how its state is written and read."""

    detector: Any
    names: tuple[str, ...]

    @abstractmethod
    def points(self, rows: pa.Table, first: int) -> AnyArray:
        """Rows as the detector takes them, (rows, width); ``first`` is the number of the first in its stream."""

    @abstractmethod
    def written(self, detector: Any) -> dict[str, object]:
        """The state of a detector as JSON."""

    @abstractmethod
    def read(self, detector: Any, state: Mapping[str, Any]) -> None:
        """Put a state into a detector."""

    @abstractmethod
    def step(self, detector: Any, point: AnyArray, number: int) -> tuple[bool, FloatArray]:
        """Show a row; whether it alarms, and what share of its threshold each of ``names`` is at."""

    def begin(self) -> Any:
        """A detector before its first row."""
        found = copy.copy(self.detector)
        found.reset_state()
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class OnlineAlibi:
    """A fitted online detector."""

    chart: Chart
    parameters: Mapping[str, Any]
    reference: pa.Table

    def begin(self) -> dict[str, object]:
        """A stream before its first row."""
        return {"rows": 0, "state": self.chart.written(self.chart.begin())}

    def update(self, stream: Mapping[str, Any], rows: pa.Table) -> tuple[dict[str, object], DriftVerdict]:
        """Add the next rows.

        The verdict has no p-values: ``distance`` is the largest share of its threshold that a feature's statistic was
        at in these rows, and ``threshold`` is 1.

        Raises:
            PluginFailed: when the rows lack a feature, or have it as another type.
        """
        first = int(stream["rows"])
        points = self.chart.points(rows, first)
        detector = self.chart.begin()
        self.chart.read(detector, stream["state"])
        highest = np.zeros(len(self.chart.names))
        at, drifted = list[int](), dict[str, None]()
        with at_work(), seeded(0):
            for index, point in enumerate(points):
                alarm, shares = self.chart.step(detector, point, first + index)
                highest = np.fmax(highest, shares)
                if alarm:
                    at.append(first + index + 1)
                    named = [int(chart) for chart in np.argsort(-shares, kind="stable") if shares[chart] >= 1]
                    drifted |= dict.fromkeys(self.chart.names[chart] for chart in named)
                    detector.reset_state()
        following = {"rows": first + rows.num_rows, "state": self.chart.written(detector)}
        verdict = DriftVerdict(
            drift=bool(at),
            threshold=1.0,
            p_val={},
            distance=dict(zip(self.chart.names, highest.tolist(), strict=True)),
            drifted=tuple(drifted),
            rows=rows.num_rows,
            at=tuple(at),
        )
        return following, verdict

    def predict(self, window: pa.Table) -> DriftVerdict:
        """The verdict on a window as a stream of its own."""
        return self.update(self.begin(), window)[1]

    def state(self) -> tuple[dict[str, object], pa.Table]:
        """Parameters with the thresholds as JSON, and the reference rows of the watched features."""
        return dict(self.parameters), self.reference


def require_length(ert: int, windows: Sequence[int], reference_rows: int) -> None:
    """Refuse windows that are too short, and a run length in which they are not even full.

    Raises:
        PluginFailed: for the first of them.
    """
    if not windows or min(windows) < LEAST_WINDOW:
        fact = f"the windows are of {', '.join(str(size) for size in windows) or 'no'} rows"
        raise PluginFailed(fact, hint=f"give sizes of at least {LEAST_WINDOW} rows", key="with.window_sizes")
    if ert < 2 * max(windows):
        fact = f"ert is {ert}, and the longest window is {max(windows)}"
        raise PluginFailed(fact, hint=f"give at least {2 * max(windows)}", key="with.ert")
    if reference_rows < 2 * max(windows):
        fact = f"the reference has {reference_rows} rows, and the longest window is {max(windows)}"
        raise PluginFailed(fact, hint="give a longer reference, or shorter windows", key="with.reference_rows")


def streams_for(rarity: int, given: int | None) -> int:
    """How many streams are simulated for thresholds that one row in ``rarity`` passes: ten times as many, or as given.

    Raises:
        PluginFailed: when they are too few to see that once or twice, or too many to be held.
    """
    if given is not None and given < FEWEST * rarity:
        fact = f"{given:,} streams are too few for thresholds that one row in {rarity:,} passes"
        raise PluginFailed(fact, hint=f"give at least {FEWEST * rarity:,}", key="with.n_bootstraps")
    found = given or min(max(LEAST_STREAMS, STREAMS * rarity), max(MOST_STREAMS, FEWEST * rarity))
    if found > 2 * MOST_STREAMS:
        fact = f"thresholds that one row in {rarity:,} passes need more streams than can be held"
        raise PluginFailed(fact, hint="give a smaller ert or fewer features, or use the detector cusum", key="with.ert")
    return found


def listed(values: AnyArray) -> list[Any]:
    """An array as JSON, with null for NaN."""
    known = np.asarray(values, dtype=np.float64)
    found = known.astype(object)
    found[np.isnan(known)] = None
    return list(found.tolist())


def array(values: Sequence[Any]) -> FloatArray:
    """What :func:`listed` wrote."""
    return np.array(values, dtype=np.float64)


# -- each feature alone ------------------------------------------------------------------------------------------------


class Univariate(Chart):
    """A detector of alibi's that has a statistic for each feature and window size."""

    def __init__(self, detector: Any, rows: Rows, names: Sequence[str]) -> None:
        self.detector = detector
        self.rows = rows
        self.names = tuple(names)

    def points(self, rows: pa.Table, first: int) -> AnyArray:
        """The features' values."""
        return self.rows(rows, first)

    def written(self, detector: Any) -> dict[str, object]:
        """How many rows it saw since it began, the last ones, and the last statistics."""
        seen = detector.xs[-int(detector.max_ws) :] if detector.t else np.empty((0, len(self.names)))
        return {
            "t": int(detector.t),
            "xs": np.asarray(seen, dtype=np.float64).tolist(),
            "stats": [listed(last) for last in np.asarray(detector.test_stats[-1:], dtype=np.float64)],
        }

    def read(self, detector: Any, state: Mapping[str, Any]) -> None:
        """Put it there."""
        detector.t = int(state["t"])
        detector.xs = array(state["xs"]).reshape(-1, len(self.names)).astype(detector.x_ref.dtype)
        shape = (-1, len(detector.window_sizes), len(self.names))
        detector.test_stats = array(state["stats"]).reshape(shape)

    def step(self, detector: Any, point: AnyArray, number: int) -> tuple[bool, FloatArray]:  # noqa: ARG002
        """Show a row. What alibi keeps of earlier ones, and does not look at, is dropped."""
        found = detector.predict(point)["data"]
        detector.test_stats, detector.drift_preds = detector.test_stats[-1:], detector.drift_preds[:0]
        detector.xs = detector.xs[-int(detector.max_ws) :]
        highest = np.fmax.reduce(np.asarray(found["test_stat"], dtype=np.float64), axis=0)
        limits = np.broadcast_to(np.asarray(found["threshold"], dtype=np.float64), highest.shape)
        shares = np.zeros(len(highest))
        np.divide(highest, limits, out=shares, where=~np.isnan(highest) & (limits > 0))
        return bool(found["is_drift"]), shares


class CramerVonMises(Univariate):
    """The comparisons of the window's rows with the reference and with each other follow from the rows."""

    def read(self, detector: Any, state: Mapping[str, Any]) -> None:
        """Put it there, and compare."""
        Univariate.read(self, detector, state)
        seen, known = detector.xs, detector.x_ref
        if detector.t:
            detector.ids_ref_wins = seen[None, :, :] >= known[:, None, :]
            detector.ids_wins_ref = seen[:, None, :] <= known[None, :, :]
            detector.ids_wins_wins = (seen[None, :, :] >= seen[:, None, :]).astype(int)


class Fisher(Univariate):
    """Where a statistic is just at its threshold, alibi throws dice: the row's own."""

    def __init__(self, detector: Any, rows: Rows, names: Sequence[str], seed: int) -> None:
        Univariate.__init__(self, detector, rows, names)
        self.seed = seed

    def step(self, detector: Any, point: AnyArray, number: int) -> tuple[bool, FloatArray]:
        """Show a row."""
        np.random.seed((self.seed * 1_000_003 + number) % 2**32)
        return Univariate.step(self, detector, point, number)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnivariateOnline(ABC):
    """A test of each feature in sliding windows of some sizes."""

    online: ClassVar[bool]
    roles: ClassVar[tuple[Role, ...]]
    instead: ClassVar[str] = "cusum"
    least_rows: ClassVar[int]

    ert: Count = 1_000
    window_sizes: list[Count] | None = None
    n_bootstraps: Count | None = None
    features: list[str] | None = None
    reference_rows: Count = 1_000

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for values that do not go together."""
        require_length(self.ert, self.sizes, self.reference_rows)

    @property
    def sizes(self) -> list[int]:
        """The windows, the smallest first."""
        return sorted(self.window_sizes or WINDOWS)

    @abstractmethod
    def options(self) -> dict[str, object]:
        """The parameters that this detector has of its own."""

    @abstractmethod
    def chart(self, parameters: Mapping[str, Any], reference: pa.Table, known: Any = None) -> tuple[Chart, Any]:
        """alibi's detector with the thresholds that are ``known``, or simulated ones; and those, as JSON."""

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> OnlineAlibi:
        """Simulate the thresholds at which streams without a change alarm once in ``ert`` rows.

        Raises:
            PluginFailed: for a feature that is not there, of another role or without values.
        """
        watched = chosen(features, self.features, self.roles, instead=self.instead)
        kept = sampled(reference, watched, self.reference_rows, seed)
        require_length(self.ert, self.sizes, kept.num_rows)
        given = {
            "ert": self.ert,
            "window_sizes": self.sizes,
            "n_bootstraps": streams_for(self.ert * len(watched), self.n_bootstraps),
            "seed": seed,
            **self.options(),
            "features": described(watched),
        }
        _, thresholds = self.chart(given, kept)
        return self.restore({**given, "thresholds": thresholds}, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> OnlineAlibi:
        """The detector whose state this is; the same thresholds.

        Raises:
            PluginFailed: when alibi-detect does not load.
        """
        chart, _ = self.chart(parameters, reference, parameters["thresholds"])
        return OnlineAlibi(chart=chart, parameters=parameters, reference=reference)


def simulated(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What alibi's univariate detectors are told.

    Their ``ert`` is counted from the row that fills the smallest window; ours from the row after an alarm.
    """
    sizes = list(parameters["window_sizes"])
    return {
        "ert": int(parameters["ert"]) - (min(sizes) - 1),
        "window_sizes": sizes,
        "n_bootstraps": int(parameters["n_bootstraps"]),
        "verbose": False,
    }


def knowing(detector: type[Any], **known: Any) -> type[Any]:
    """A class of alibi's whose thresholds, and what else its simulation finds out, are known."""

    def configure(self: Any) -> None:
        for name, value in known.items():
            setattr(self, name, value)

    return type(detector.__name__, (detector,), {"_configure_thresholds": configure})


class CVMDriftOnline(UnivariateOnline):
    """Online Cramér-von Mises test on each numeric feature in sliding windows, by alibi-detect.

    ``ert``: the expected run time, in rows, between false alarms; features that go together have fewer.
    ``window_sizes``: the smaller the sooner, the larger the less is seen; 20 and 40 when nothing is said.
    ``n_bootstraps``: how many streams are simulated for the thresholds; else ten times ``ert`` times the features, as
    far as they can be held. ``features``: which ones, else all numeric. ``reference_rows``: of a longer reference so
    many are drawn. The test is for numbers that are never equal: equal ones are put in an order by the row's own dice.
    Instead of null a value of the reference is drawn.
    """

    online = True
    roles = ("numeric",)
    least_rows = 1

    def options(self) -> dict[str, object]:
        """None."""
        return {}

    def chart(self, parameters: Mapping[str, Any], reference: pa.Table, known: Any = None) -> tuple[Chart, Any]:
        """CVMDriftOnline."""
        features, seed = restored(parameters), int(parameters["seed"])
        values = [with_holes(reference, feature).astype(np.float64) for feature in features]
        present = [column[~np.isnan(column)] for column in values]
        for feature, column in zip(features, present, strict=True):
            require_seen(feature, len(column))

        def rows(table: pa.Table, first: int) -> AnyArray:
            found = np.column_stack([with_holes(table, feature).astype(np.float64) for feature in features])
            return untied(found, present, seed, first)

        plain = part("cd.cvm_online", "CVMDriftOnline")
        made = ranked(plain) if known is None else knowing(plain, thresholds=array(known))
        with at_work(), seeded(seed):
            detector = made(rows(reference, -reference.num_rows), **simulated(parameters))
        return CramerVonMises(detector, rows, [item.name for item in features]), listed(detector.thresholds)


def ranked(detector: type[Any]) -> type[Any]:
    """alibi's CVMDriftOnline with its simulation done by ranks: the same statistics, sooner.

    The law of the statistic is the same for all numbers that are never equal, so streams of uniform ones are drawn.
    """

    def simulate(self: Any, length: int) -> AnyArray:
        sizes = [int(size) for size in self.window_sizes]
        found = [streams_of(int(self.n), length, sizes, many) for many in parts_of(int(self.n_bootstraps))]
        return np.concatenate(found)

    return type(detector.__name__, (detector,), {"_simulate_streams": simulate})


def parts_of(streams: int) -> list[int]:
    """The streams in parts that fit the memory."""
    whole, rest = divmod(streams, AT_ONCE)
    return [AT_ONCE] * whole + ([rest] if rest else [])


def streams_of(known: int, length: int, sizes: Sequence[int], many: int) -> AnyArray:
    """The greatest statistics of so many streams, each with a reference of its own, (many, length, 1), or NaN.

    Only how many rows of the reference are below a row of the stream matters, and the rows share a reference: so one
    of uniform numbers is drawn for each stream, sorted, as the sums of exponential gaps.
    """
    gaps = np.random.standard_exponential((many, known + 1))
    reference = np.cumsum(gaps, axis=1)
    rows = np.random.random((many, length)) * reference[:, -1:]
    below = np.array([np.searchsorted(one[:-1], row) for one, row in zip(reference, rows, strict=True)])
    found = np.full((many, length), np.nan, dtype=np.float32)
    for size in sizes:
        for row in range(size - 1, length):
            found[:, row] = np.fmax(found[:, row], cramer_von_mises(below[:, row + 1 - size : row + 1], known))
    return found[:, :, None]


def cramer_von_mises(below: AnyArray, known: int) -> FloatArray:
    """The normalised statistics of windows from how many of ``known`` rows are below each of theirs, (windows, m).

    The squared differences of both distribution functions are summed over the rows of the window and of the reference.
    With c the sorted counts, the window's function is j / m between c_j and c_(j+1), so that the sum over the reference
    is one of squares of whole numbers, which has a closed form. It is normalised by its mean and variance without a
    change (Anderson, 1962, Annals of Mathematical Statistics 33:1148), as alibi does.
    """
    windows, m = below.shape
    counts, n = np.sort(below, axis=1).astype(np.float64), float(known)
    steps = np.arange(1, m + 1) / m
    own = np.sum((counts / n - steps) ** 2, axis=1)
    edges = np.concatenate([np.zeros((windows, 1)), counts, np.full((windows, 1), n)], axis=1)
    first = edges * (edges + 1) / 2
    second = first * (2 * edges + 1) / 3
    levels = np.arange(m + 1) / m
    pieces = np.diff(second) / n**2 - 2 * levels * np.diff(first) / n + levels**2 * np.diff(edges)
    total = n + m
    mean = 1 / 6 + 1 / (6 * total)
    variance = (total + 1) * (4 * n * m * total - 3 * (n * n + m * m) - 2 * n * m) / (45 * total**2 * 4 * n * m)
    return np.asarray(((own + pieces.sum(axis=1)) * n * m / total**2 - mean) / np.sqrt(variance))


def untied(plain: FloatArray, present: Sequence[FloatArray], seed: int, first: int) -> FloatArray:
    """Numbers that are never equal, (rows, features): to each float32 a part of the step to the next one is added.

    So different ones keep their order, and equal ones get one at random, by the seed and the number of their row.
    Instead of NaN one of ``present`` is drawn.
    """
    found = np.empty(plain.shape)
    for index, row in enumerate(plain):
        random = np.random.default_rng([seed, 2**40 + first + index])
        parts, places = random.random(len(row)), random.random(len(row))
        instead = [column[int(place * len(column))] for column, place in zip(present, places, strict=True)]
        full = np.where(np.isnan(row), instead, row)
        finite = np.clip(full, -LARGEST, LARGEST)
        found[index] = finite + parts * np.spacing(np.abs(finite).astype(np.float32)).astype(np.float64)
    return found


@dataclass(frozen=True, kw_only=True, slots=True)
class FETDriftOnline(UnivariateOnline):
    """Online Fisher's exact test on features of two values in sliding windows, by alibi-detect.

    ``features``: which ones; each has two values in the reference, of which the greater is counted. ``alternative``:
    whether its share getting ``greater`` or ``less`` is a drift. ``ert``: the expected run time, in rows, between
    false alarms; features that go together have fewer. ``window_sizes``: 20 and 40 when nothing is said. ``lam``: how
    much the newest statistic counts in the moving average. ``n_bootstraps``: how many streams are simulated for the
    thresholds; else ten times ``ert`` times the features. ``reference_rows``: of a longer reference so many are drawn.
    Instead of null a value of the reference is drawn.
    """

    online = True
    roles = ("numeric", "categorical")
    least_rows = 1

    features: list[str]
    alternative: Literal["greater", "less"] = "greater"
    lam: float = 0.99
    reference_rows: Count = 10_000

    def options(self) -> dict[str, object]:
        """The direction and the smoothing.

        Raises:
            PluginFailed: for values out of their range.
        """
        require_option("alternative", self.alternative, ("greater", "less"))
        if not 0 < self.lam <= 1:
            raise PluginFailed(f"lam is {self.lam}", hint="give a number above 0, at most 1", key="with.lam")
        return {"alternative": self.alternative, "lam": self.lam}

    def chart(self, parameters: Mapping[str, Any], reference: pa.Table, known: Any = None) -> tuple[Chart, Any]:
        """FETDriftOnline."""
        features, seed = restored(parameters), int(parameters["seed"])
        seconds = {feature.name: second_in(reference, feature) for feature in features}
        present = [ones(reference, feature, seconds[feature.name]) for feature in features]
        present = [column[~np.isnan(column)] for column in present]

        def rows(table: pa.Table, first: int) -> AnyArray:
            plain = np.column_stack([ones(table, feature, seconds[feature.name]) for feature in features])
            return filled(plain, present, seed, first).astype(np.int64)

        made = smoothed(part("cd.fet_online", "FETDriftOnline"))
        if known is not None:
            limits = array(known["thresholds"]).astype(np.float32)
            made = knowing(made, thresholds=limits, permit_probs=array(known["permit_probs"]))
        with at_work(), seeded(seed):
            detector = made(
                rows(reference, -reference.num_rows),
                alternative=parameters["alternative"],
                lam=float(parameters["lam"]),
                **simulated(parameters),
            )
        found = {"thresholds": listed(detector.thresholds), "permit_probs": listed(detector.permit_probs)}
        return Fisher(detector, rows, [item.name for item in features], seed), found


def smoothed(detector: type[Any]) -> type[Any]:
    """alibi's FETDriftOnline with another simulation of the same statistics.

    A statistic of a window depends on how many ones are in it, so all that there can be are computed once. alibi draws
    the streams as if the reference's share were the true one; here it is drawn for each stream from what the reference
    says of it (a beta distribution, by Jeffreys), as the test is of new rows against a sample. And alibi fails where
    rounding makes the chance of an alarm at the threshold more than 1 or less than 0.
    """

    def configure(self: Any) -> None:
        beta = 1 - (1 - self.fpr) ** (1 / self.n_features)
        shape = (int(self.t_max), int(self.n_features))
        self.thresholds, self.permit_probs = np.full(shape, np.nan, np.float32), np.full(shape, np.nan)
        for feature in range(shape[1]):
            highest = shares_of(self, int(np.sum(self.x_ref[:, feature])))
            for row in range(min(self.window_sizes) - 1, shape[0]):
                threshold, chance, highest = passed(highest, row, beta)
                self.thresholds[row, feature], self.permit_probs[row, feature] = threshold, chance

    return type(detector.__name__, (detector,), {"_configure_thresholds": configure})


def shares_of(detector: Any, known: int) -> AnyArray:
    """The greatest statistics of streams of ones and zeros, (streams, rows), for a reference with ``known`` ones."""
    n, streams, length = int(detector.n), int(detector.n_bootstraps), int(detector.t_max)
    share = np.random.beta(known + 0.5, n - known + 0.5, (streams, 1))
    ones = np.cumsum(np.random.random((streams, length)) < share, axis=1, dtype=np.int32)
    ones = np.concatenate([np.zeros((streams, 1), np.int32), ones], axis=1)
    highest = np.full((streams, length), np.nan, np.float32)
    for size in detector.window_sizes:
        counts = np.arange(size + 1)
        if detector.alternative == "greater":
            p_vals = stats.hypergeom.cdf(known, n + size, known + counts, n)
        else:
            p_vals = stats.hypergeom.cdf(counts, n + size, known + counts, size)
        found = (1 - p_vals)[ones[:, size:] - ones[:, :-size]]
        for row in range(1, found.shape[1]):
            found[:, row] = (1 - detector.lam) * found[:, row - 1] + detector.lam * found[:, row]
        highest[:, size - 1 :] = np.fmax(highest[:, size - 1 :], found)
    return highest


def passed(highest: AnyArray, row: int, beta: float) -> tuple[float, float, AnyArray]:
    """The threshold that a share ``beta`` of streams passes at a row, and how probably one that is just at it goes on.

    Returns:
        Both, and the streams that go on (Ross, Tasoulis and Adams, 2012, Statistics and Computing 23:467).
    """
    here = highest[:, row]
    threshold = np.float32(np.quantile(here, 1 - beta, method="higher"))
    below, at = here < threshold, here == threshold
    chance = float(np.clip((1 - beta - below.mean()) / at.mean(), 0, 1))
    going = below.copy()
    going[at] = np.random.random(np.count_nonzero(at)) < chance
    return float(threshold), chance, highest[going]


def second_in(reference: pa.Table, feature: Feature) -> Cell:
    """The greater of a feature's two values.

    Raises:
        PluginFailed: when it has not two.
    """
    if feature.role == "categorical":
        return second_of(feature, sorted(categories(reference, feature)))
    values = with_holes(reference, feature)
    return second_of(feature, [float(value) for value in np.unique(values[~np.isnan(values)])])


def ones(table: pa.Table, feature: Feature, second: Cell) -> FloatArray:
    """1 where a feature has the value ``second``, 0 where another, NaN where none."""
    if feature.role == "numeric":
        values = with_holes(table, feature).astype(np.float64)
        return np.where(np.isnan(values), np.nan, values == second)
    at = codes(table, feature, [str(second)])
    return np.where(at < 0, np.nan, at == 0)


def filled(plain: FloatArray, present: Sequence[FloatArray], seed: int, first: int) -> FloatArray:
    """The same rows, with one of ``present`` instead of NaN, by the seed and the number of the row."""
    found = plain.copy()
    for index, feature in np.argwhere(np.isnan(plain)):
        random = np.random.default_rng([seed, 2**40 + first + int(index), int(feature)])
        found[index, feature] = present[feature][random.integers(len(present[feature]))]
    return found


# -- the whole row -----------------------------------------------------------------------------------------------------


class Multivariate(Chart):
    """A detector of alibi's on PyTorch that has one statistic of the window of the last rows."""

    names = (WHOLE_ROW,)

    def __init__(self, detector: Any, rows: Rows) -> None:
        self.detector = detector
        self.rows = rows

    def points(self, rows: pa.Table, first: int) -> AnyArray:
        """The rows as points."""
        return self.rows(rows, first)

    def written(self, detector: Any) -> dict[str, object]:
        """How many rows it saw since it began, and the window."""
        return {"t": int(detector.t), "window": detector.test_window.tolist()}

    def read(self, detector: Any, state: Mapping[str, Any]) -> None:
        """Put it there, and compute the kernel row by row, as it was computed: else its last bits would differ."""
        import torch

        detector.t = int(state["t"])
        detector.test_window = torch.tensor(state["window"], dtype=torch.float32)
        self.compare(detector)

    @abstractmethod
    def compare(self, detector: Any) -> None:
        """Compute what the detector keeps of its window."""

    def begin(self) -> Any:
        """A detector before its first row."""
        found = Chart.begin(self)
        self.compare(found)
        return found

    def step(self, detector: Any, point: AnyArray, number: int) -> tuple[bool, FloatArray]:  # noqa: ARG002
        """Show a row."""
        found = detector.predict(aligned(point))["data"]
        detector.test_stats, detector.drift_preds = detector.test_stats[:0], detector.drift_preds[:0]
        alarm, limit = bool(found["is_drift"]), float(found["threshold"])
        share = float(found["test_stat"]) / limit if limit > 0 else float(alarm)
        if alarm:
            detector.reset_state()
            self.compare(detector)
        return alarm, np.array([max(share, 0.0)])


class Discrepancy(Multivariate):
    """Maximum mean discrepancy."""

    def compare(self, detector: Any) -> None:
        """The kernel of the reference and the window."""
        import torch

        known = detector.x_ref[detector.ref_inds]
        rows = [detector.kernel(known, row.clone()[None, :]) for row in detector.test_window]
        detector.k_xy = torch.cat(rows, 1)


class Difference(Multivariate):
    """Least-squares density difference."""

    def compare(self, detector: Any) -> None:
        """The kernel of the window and the centers."""
        import torch

        rows = [detector.kernel(row.clone()[None, :], detector.kernel_centers) for row in detector.test_window]
        detector.k_xtc = torch.cat(rows, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class MultivariateOnline(ABC):
    """A test of whole rows in a sliding window, on PyTorch."""

    online: ClassVar[bool]
    roles: ClassVar[tuple[Role, ...]]
    least_rows: ClassVar[int]
    module: ClassVar[str]
    name: ClassVar[str]
    beside: ClassVar[tuple[str, ...]]

    ert: Count = 1_000
    window_size: Count = 20
    n_bootstraps: Count | None = None
    features: list[str] | None = None
    reference_rows: Count = 500

    def __post_init__(self) -> None:
        """Raises: PluginFailed, for values that do not go together."""
        require_length(self.ert, [self.window_size], self.reference_rows // 2)

    @classmethod
    @abstractmethod
    def charted(cls, detector: Any, rows: Rows) -> Chart:
        """How this one keeps its window."""

    def fit(self, reference: pa.Table, features: Sequence[Feature], seed: int) -> OnlineAlibi:
        """Simulate the thresholds at which streams without a change alarm once in ``ert`` rows.

        Raises:
            PluginFailed: for a feature that is not there or without values, and when PyTorch is not installed.
        """
        watched = chosen(features, self.features)
        kept = sampled(reference, watched, self.reference_rows, seed)
        require_length(self.ert, [self.window_size], kept.num_rows // 2)
        given = {
            "ert": self.ert,
            "window_size": self.window_size,
            "n_bootstraps": streams_for(self.ert, self.n_bootstraps),
            "seed": seed,
            **encoding_of(kept, watched).document(),
        }
        detector = self.made(given, kept, None)
        found: dict[str, object] = {"thresholds": [float(limit) for limit in detector.thresholds]}
        found |= {name: getattr(detector, name).tolist() for name in self.beside}
        return self.restore({**given, "simulated": found}, kept)

    def restore(self, parameters: Mapping[str, Any], reference: pa.Table) -> OnlineAlibi:
        """The detector whose state this is; the same thresholds.

        Raises:
            PluginFailed: when alibi-detect, or PyTorch, does not load.
        """
        detector = self.made(parameters, reference, parameters["simulated"])
        encoding = stored_encoding(parameters)
        chart = self.charted(detector, lambda rows, _: encoding.points(rows))
        return OnlineAlibi(chart=chart, parameters=parameters, reference=reference)

    def made(self, parameters: Mapping[str, Any], reference: pa.Table, known: Mapping[str, Any] | None) -> Any:
        """alibi's detector; what it draws beside the thresholds is drawn by the seed, whether they are known or not."""
        plain = with_torch(self.module, self.name)
        import torch

        seed = int(parameters["seed"])

        def configure(self: Any) -> None:
            if known is None:
                plain._configure_thresholds(self)
            else:
                self.thresholds = list(known["thresholds"])
                for name in known.keys() - {"thresholds"}:
                    setattr(self, name, torch.tensor(known[name], dtype=torch.float32))
            torch.manual_seed(seed + 1)

        made = type(plain.__name__, (plain,), {"_configure_thresholds": configure})
        with at_work(), torch_seeded(seed):
            return made(
                aligned(stored_encoding(parameters).points(reference)),
                ert=float(parameters["ert"]),
                window_size=int(parameters["window_size"]),
                n_bootstraps=int(parameters["n_bootstraps"]),
                device="cpu",
                verbose=False,
            )


class MMDDriftOnline(MultivariateOnline):
    """Online maximum mean discrepancy of whole rows in a sliding window, by alibi-detect on PyTorch.

    ``ert``: the expected run time, in rows, between false alarms. ``window_size``: rows of the window, which begins
    full of rows of the reference. ``n_bootstraps``: how many windows are drawn for the thresholds; else ten times
    ``ert``. ``features``: which ones, else all. ``reference_rows``: of a longer reference so many are drawn.
    """

    online = True
    roles = ("numeric", "categorical")
    least_rows = 1
    module = "cd.pytorch.mmd_online"
    name = "MMDDriftOnlineTorch"
    beside = ()

    @classmethod
    def charted(cls, detector: Any, rows: Rows) -> Chart:
        """A chart of the discrepancy."""
        return Discrepancy(detector, rows)


class LSDDDriftOnline(MultivariateOnline):
    """Online least-squares density difference of whole rows in a sliding window, by alibi-detect on PyTorch.

    ``ert``: the expected run time, in rows, between false alarms. ``window_size``: rows of the window, which begins
    full of rows of the reference. ``n_bootstraps``: how many windows are drawn for the thresholds; else ten times
    ``ert``. ``features``: which ones, else all. ``reference_rows``: of a longer reference so many are drawn.
    """

    online = True
    roles = ("numeric", "categorical")
    least_rows = 1
    module = "cd.pytorch.lsdd_online"
    name = "LSDDDriftOnlineTorch"
    beside = ("H_lam_inv",)

    @classmethod
    def charted(cls, detector: Any, rows: Rows) -> Chart:
        """A chart of the difference."""
        return Difference(detector, rows)
