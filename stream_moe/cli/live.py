"""A run as it happens, on a terminal: drawn anew twice a second by a thread, from what was reported last.

The stream's own thread only swaps references and, twice a second, adds a sample; rich keeps what is printed or
logged meanwhile above the view. The cursor stays visible, so that a process that is killed or suspended leaves the
terminal as it was.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from stream_moe.cli.outputs import Ended, Flow, Output, Standing, timed_marks
from stream_moe.cli.summary import print_summary
from stream_moe.report import LearnerReport
from stream_moe.shown import printable

REFRESH_SECONDS = 0.5  # a frame and a report of the model cost some 6 ms: 1.2 % of a core
RECENT_SAMPLES = 20  # the speed and the routing shown are those of so many samples: about 10 s
SAMPLES = 240  # of the curve: twice what is ever drawn, so that halving them leaves enough
CURVE_WIDTH = 60
LEAST_SPAN = 0.02  # of the curve's scale: noise shall not look like drift
LEAST_EVENTS = 100  # before so many the recent accuracy is chance, and would set the scale
MOST_EXPERTS = 8
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-~=+*#"
GAP = "   "
SCORES = (  # two lines of three: name, field of the report, form, style
    ("accuracy", "accuracy", "{:.2%}", "bold"), ("recent", "window_accuracy", "{:.2%}", "bold"),
    ("log-loss", "log_loss", "{:.4f}", ""), ("kappa", "kappa", "{:.4f}", ""),
    ("kappa_M", "kappa_majority", "{:.4f}", ""), ("kappa_temporal", "kappa_temporal", "{:.4f}", ""),
)  # fmt: skip


class LiveView(Output):
    """Progress, scores, drifts, experts; for a member of a group also its lag, state and last checkpoint.

    `total` events are expected, None = nobody knows how many. It draws on `console`, None = stdout.
    """

    def __init__(
        self,
        title: str,
        total: int | None = None,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console or Console(highlight=False, markup=False)
        encoding = self._console.encoding
        self._title = printable(title).encode(encoding, "backslashreplace").decode(encoding)
        self._total, self._clock = total, clock
        self._unicode = _can_show(BLOCKS, encoding)
        self._state = "starting"
        self._standing: Standing | None = None
        self._begin = self._sampled = clock()
        self._curve = Curve()
        self._recent: deque[tuple[float, int, list[int]]] = deque(maxlen=RECENT_SAMPLES)  # time, events, routed
        self._drifts = DriftMarks()
        self._width = self._console.width
        self._live = Live(
            console=self._console,
            refresh_per_second=1 / REFRESH_SECONDS,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),  # else it goes where the user sent it
            vertical_overflow="crop",
            get_renderable=self._render,
        )

    def start(self) -> None:
        self._live.start(refresh=True)
        self._console.show_cursor(True)

    def marks(self) -> Iterator[int]:
        return timed_marks(REFRESH_SECONDS, self._clock)

    def is_due(self, events: int) -> bool:
        return not self._recent or self._clock() - self._sampled >= REFRESH_SECONDS / 2

    def progress(self, at: Standing) -> None:
        self._standing = at
        if at.flow is None:
            self._state = "running"
        if not self.is_due(at.events):
            return
        self._sampled = now = self._clock()
        events = at.events if at.flow is None else at.flow.events
        self._recent.append((now, events, [expert.routed for expert in at.learner.experts]))
        if at.quality.events >= LEAST_EVENTS:
            self._curve.add(at.events, at.quality.window_accuracy)
        self._drifts.look(events, at.learner, alone=at.flow is None or at.flow.partitions == 1)

    def state(self, state: str) -> None:
        self._state = state

    def end(self, ended: Ended) -> None:
        self._live.stop()
        print_summary(ended.content)

    def abort(self) -> None:
        self._live.transient = False  # the view says how far it came
        self._live.stop()

    # Drawing

    def _render(self) -> RenderableType:
        width, height = self._console.size
        if width < self._width:  # the terminal has wrapped what was drawn: nobody knows how many lines it takes now
            self._console.clear()
        self._width = width
        return Group(*self.frame(width, height))

    def frame(self, width: int, height: int) -> list[Text]:
        """Draw the view: at most `height - 1` lines, none wider than `width`."""
        lines = self._lines(width, height - 1)[: max(height - 1, 1)]
        for line in lines:
            line.truncate(width, overflow="crop")
            line.no_wrap = True  # it fits; looking for where to break it is a third of the work
        return lines

    def _lines(self, width: int, room: int) -> list[Text]:
        state = Text(self._state, "green" if self._state == "running" else "yellow")
        head = Text(self._title, "bold")
        head.truncate(max(width - len(state) - len(GAP), 1), overflow="ellipsis" if self._unicode else "crop")
        head.append(" " * max(width - len(head) - len(state), 1)).append_text(state)
        elapsed = self._clock() - self._begin
        at = self._standing
        if at is None:
            waiting = "compiling and warming up" if self._state == "starting" else "waiting for the first event"
            return [head, *_flowing([_labelled(waiting, _span(elapsed))], width)]
        lines, quality = [head], at.quality
        if self._total:
            full = min(at.events, self._total) * width // self._total
            line, rest = "━─" if self._unicode else "#-"
            lines.append(Text(line * full, "cyan").append(rest * (width - full), "dim"))
        lines += _flowing(self._progress(at, elapsed), width)
        scores = [_labelled(name, form.format(getattr(quality, key)), style) for name, key, form, style in SCORES]
        lines += _flowing(scores[:3], width) + _flowing(scores[3:], width)
        lines += self._drawn_curve(at, width) if quality.events >= LEAST_EVENTS else []
        beside = {} if at.flow is None else at.flow.drifts
        others = [_labelled(f"{scope} drifts", f"{count:,}") for scope, count in sorted(beside.items())]
        lines += _flowing(self._drifts.parts() + others, width)
        if at.flow is not None:
            lines += _flowing(_flow(at.flow), width)
        return lines + self._experts(at.learner, width, room - len(lines))

    def _progress(self, at: Standing, elapsed: float) -> list[Text]:
        first, last = (self._recent[0], self._recent[-1]) if self._recent else ((0.0, 0), (0.0, 0))
        seconds = last[0] - first[0]
        rate = (last[1] - first[1]) / seconds if seconds > 0 else 0.0
        events = at.events if at.flow is None else at.flow.events
        done = f"{events:,}" + (f" of {self._total:,}" if self._total else "")
        named = {"events": done, "events/s": f"{rate:,.0f}", "elapsed": _span(elapsed)}
        parts = [_labelled(name, value) for name, value in named.items()]
        if self._total and rate:
            parts.append(_labelled("left", _span(max(self._total - events, 0) / rate)))
        return parts

    def _drawn_curve(self, at: Standing, width: int) -> list[Text]:
        label = "recent "
        cells, low, high = self._curve.cells(min(CURVE_WIDTH, width - len(label)), BLOCKS if self._unicode else PLAIN)
        line = Text(label, "dim").append(cells, "cyan not dim")
        scale = f"  {low:.1%} to {high:.1%}"
        if len(line) + len(scale) <= width:
            line.append(scale, "dim")
        marks = [" "] * len(cells)
        for event in self._drifts.recent:
            marks[min(event * len(cells) // max(at.events, 1), len(cells) - 1)] = "^"
        return [line, Text("drift  ", "dim").append("".join(marks), "yellow not dim")]

    def _experts(self, learner: LearnerReport, width: int, room: int) -> list[Text]:
        """Those that were routed most lately; as many as there is room for."""
        experts = learner.experts
        before = self._recent[0][2] if len(self._recent) > 1 else []
        fresh = [expert.routed - (before[e] if e < len(before) else 0) for e, expert in enumerate(experts)]
        total = max(sum(fresh), 1)
        order = sorted(range(len(experts)), key=lambda e: (-fresh[e], -experts[e].window_accuracy))
        order = order[: max(0, min(MOST_EXPERTS, room - 2))]
        if not order:
            return []
        rows = [_row(("expert", "routed", "accuracy", "drifts", ""), width, "dim")]
        for e in order:
            expert = experts[e]
            cells = (f"{e:>2} {expert.kind}", f"{fresh[e] / total:.1%}", f"{expert.window_accuracy:.1%}")
            state = "  asleep" if expert.asleep else ""
            rows.append(_row((*cells, f"{expert.drifts:,}", state), width, "dim" * expert.asleep))
        asleep = sum(expert.asleep for expert in experts)
        more = len(experts) - len(order)
        summary = ", ".join([f"{more} more"] * (more > 0) + [f"{asleep} of {len(experts)} asleep"])
        return [*rows, Text(f"   {summary}", "dim")]


class Curve:
    """A bounded number of values at even distances over a whole run: one more than fits, and every second one goes.

    Examples
    --------
    >>> curve = Curve()
    >>> for events in range(1, 1001):
    ...     curve.add(events, events / 1000)
    >>> drawn, low, high = curve.cells(8, "12345678")
    >>> drawn, round(low, 2), round(high, 2)
    ('12345678', 0.06, 0.94)
    """

    def __init__(self) -> None:
        self._values: list[tuple[int, float]] = []
        self._latest: tuple[int, float] | None = None
        self._seen, self._stride = 0, 1

    def add(self, events: int, value: float) -> None:
        """Add a value at a number of events not below the one before."""
        self._latest = events, value
        if self._seen % self._stride == 0:
            self._values.append(self._latest)
        self._seen += 1
        if len(self._values) > SAMPLES:
            self._values, self._stride = self._values[::2], 2 * self._stride

    def cells(self, width: int, characters: str) -> tuple[str, float, float]:
        """Draw at most `width` characters over events 0 to the latest; return them and the ends of their scale."""
        values = self._values + ([self._latest] if self._latest is not None else [])
        width = max(1, min(width, len(values)))
        last = max(values[-1][0], 1) if values else 1
        bins: list[list[float]] = [[] for _ in range(width)]
        for events, value in values:
            bins[min(events * width // last, width - 1)].append(value)
        means = [sum(each) / len(each) if each else None for each in bins]
        known = [mean for mean in means if mean is not None] or [0.0]
        low, high = min(known), max(known)
        span = max(high - low, LEAST_SPAN)
        drawn, cell = "", characters[0]
        for mean in means:
            if mean is not None:  # a bin without a value looks as the one before
                cell = characters[min(int((mean - low) / span * len(characters)), len(characters) - 1)]
            drawn += cell
        return drawn, low, high


class DriftMarks:
    """Counts of drifts by scope, and where the latest were."""

    def __init__(self) -> None:
        self.recent: deque[int] = deque(maxlen=CURVE_WIDTH)  # events at which the mixture was alarmed
        self._mixture = 0
        self._experts: list[int] = []
        self._last: tuple[int, int] | None = None  # event, expert

    def look(self, events: int, learner: LearnerReport, alone: bool) -> None:
        """Take the report of a moment, of one model `alone` or of several together.

        An expert's drift is reported as of the moment at which it was seen; so is the mixture's where there are
        several, as each counts its own events.
        """
        if learner.mixture_drifts > self._mixture:
            self.recent.append(learner.last_mixture_drift if alone else events)
        self._mixture = learner.mixture_drifts
        counts = [expert.drifts for expert in learner.experts]
        before = self._experts + [0] * (len(counts) - len(self._experts)) if self._experts else counts
        for e, (count, known) in enumerate(zip(counts, before, strict=False)):
            if count > known:
                self._last = events, e
        self._experts = counts

    def parts(self) -> list[Text]:
        """One part a scope."""
        at = f", latest at {self.recent[-1]:,}" if self.recent else ""
        by = f", latest by {self._last[0]:,} in {self._last[1]}" if self._last else ""
        style = "yellow" if self._mixture else ""
        experts = _labelled("expert drifts", f"{sum(self._experts):,}{by}")
        return [_labelled("mixture drifts", f"{self._mixture:,}{at}", style), experts]


def _can_show(characters: str, encoding: str) -> bool:
    try:
        characters.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _labelled(name: str, value: str, style: str = "") -> Text:
    return Text(f"{name} ", "dim").append(value, f"not dim {style}".strip())


def _flowing(parts: Sequence[Text], width: int) -> list[Text]:
    """Put parts into as few lines as they need, none broken."""
    lines: list[Text] = []
    line = Text()
    for part in parts:
        if line and len(line) + len(GAP) + len(part) > width:
            lines.append(line)
            line = Text()
        line = (line.append(GAP) if line else Text()).append_text(part)
    return [*lines, line]


def _flow(flow: Flow) -> list[Text]:
    kept = "none yet" if flow.checkpoint_time is None else f"{_span(max(time.time() - flow.checkpoint_time, 0))} ago"
    parts = {"waiting for labels": f"{flow.pending_events:,}"} if flow.pending_events else {}
    lag = f"{flow.lag_records:,} records, {flow.lag_seconds:,.1f} s"
    parts |= {"partitions": str(flow.partitions), "lag": lag, "checkpoint": kept}
    return [_labelled(name, value) for name, value in parts.items()]


def _row(cells: tuple[str, ...], width: int, style: str) -> Text:
    name, *numbers = cells
    line = Text(f"{printable(name)[:20]:<20}", style)
    for cell, room in zip(numbers, (9, 10, 8, 8), strict=True):
        if len(line) + room <= width:
            line.append(f"{cell:>{room}}")
    return line


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
