"""The gates' loop over events: answer, then learn or keep for later; and whose share of the answer is how large.

Which gates answer: the prompt ones, or where more than half of the last twenty labels or so came late, the late ones.
The prompt ones learn from every label. The late ones rest, and cost nothing, until the first label comes late.
"""

from __future__ import annotations

import math

import numpy as np

from stream_moe.router.gates.kernel import (
    FAST,
    FLOOR,
    N_GATES,
    RECENT,
    GateArrays,
    Row,
    learn,
    logarithms,
    mix,
    recent_weights,
)  # fmt: skip
from stream_moe.router.gates.late import (
    ENOUGH,
    FORGOTTEN,
    SHARE_RATE,
    LateArrays,
    LateRow,
    answer_late,
    learn_late,
    weigh,
)  # fmt: skip
from stream_moe.router.gates.waiting import Ring, put, take
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.copies import copy
from stream_moe.types import Float32, Float64, Int32, Int64


@compiled
def expert_shares(
    g: GateArrays, a: LateArrays, last: Float64, apart: Float64, experts: Float64, spare: Float64, out: Float64
) -> None:
    """Write each expert's share of the answer, [E], summing to 1: its weights through all levels.

    last [A] are the weights of level 3's parts in the answer, apart [N_GEOMETRIC] those of the late geometric gates.

    A committee's weight is its members'. A negative weight counts as none. An expert that abstains (NaN
    in experts [E, C]) has no share.
    """
    n_experts = out.shape[0]
    out[:] = 0.0
    members = 0
    for e in range(n_experts):
        members += g.member[e] and not math.isnan(experts[e, 0])
    for e in range(n_experts + 1):  # an input's weight from level 3 and from level 2 itself
        direct = last[1 + N_GATES + e] + last[0] * max(g.second[N_GATES + e], 0.0)
        for k in range(2):
            carried = last[1 + k] + last[0] * max(g.second[k], 0.0)
            direct += carried * max(g.geometric[k, e], 0.0)
            direct += apart[k] * max(a.geometric[k, e], 0.0)
        if e < n_experts:
            out[e] += direct
        else:
            for m in range(n_experts):
                if g.member[m] and members > 0:
                    out[m] += direct / members
    recent_weights(g.accuracy, spare)
    total = 0.0
    for e in range(n_experts):
        total += 0.0 if math.isnan(experts[e, 0]) else spare[e]
    for e in range(n_experts):
        if math.isnan(experts[e, 0]):
            out[e] = 0.0
            continue
        for k in range(2):
            out[e] += (last[1 + FAST + k] + last[0] * max(g.second[FAST + k], 0.0)) * g.share[k, e]
        out[e] += (last[1 + RECENT] + last[0] * max(g.second[RECENT], 0.0)) * spare[e] / total
    total = out.sum()
    for e in range(n_experts):
        out[e] = out[e] / total if total > 0.0 else 1.0 / n_experts


@compiled
def answer_all(
    g: GateArrays, a: LateArrays, proba: Float64, answers: Float64, row: Row, late: LateRow, spare: Float64
) -> None:
    """Write answers [n, C] to proba [E, n, C]; changes nothing but the work space."""
    for t in range(answers.shape[0]):
        mix(g, proba, t, row, spare)
        if a.share[0] > ENOUGH:
            answer_late(a, row, late)
            copy(late.answer, row.answer)
        copy(row.answer, answers[t])


@compiled
def late_shares(g: GateArrays, late: LateRow, last: Float64, apart: Float64) -> None:
    """Take level 3, as one part of the late answer, apart into its own parts."""
    prompt = last.shape[0]
    for i in range(prompt):
        last[i] = late.weight[i] + late.weight[prompt] * g.last[i]
    for k in range(apart.shape[0]):
        apart[k] = late.weight[prompt + 1 + k]


@compiled
def keep(ring: Ring, slot: int, late: LateRow, answer: Float64) -> None:
    """Keep what the parts say of an event, the votes and the answer, in this order."""
    parts = late.p.shape[0]
    for c in range(answer.shape[0]):
        for i in range(parts):
            ring.said[slot, i, c] = late.p[i, c]
        ring.said[slot, parts, c] = late.votes[c]
        ring.said[slot, parts + 1, c] = answer[c]


@compiled
def recall(ring: Ring, slot: int, row: Row, late: LateRow) -> None:
    """Undo `keep`."""
    parts = late.p.shape[0]
    for c in range(row.answer.shape[0]):
        for i in range(parts):
            late.p[i, c] = ring.said[slot, i, c]
        for i in range(row.p.shape[0]):
            row.p[i, c] = late.p[i, c]
        late.votes[c] = ring.said[slot, parts, c]
        row.answer[c] = max(np.float64(ring.said[slot, parts + 1, c]), FLOOR)
    logarithms(row, 0, row.log.shape[0])


@compiled
def run(
    g: GateArrays,
    a: LateArrays,
    ring: Ring,
    proba: Float64,
    y: Int32,
    weight: Float64,
    tickets: Int64,
    answers: Float64,
    shares: Float64,
    right: Float32,
    scored: Int32,
    row: Row,
    late: LateRow,
    spare: Float64,
) -> None:
    """Answer, then learn or keep for later, event by event.

    proba [E, n, C] what the experts say before they learn the event; y [n], -1 = not known yet; weight [n], how much
    each label counts, 0..1; tickets [n], by which an event is kept and found again, -1 = it is not. Out: answers
    [n, C], shares [n, E]; and of what was said when the event was predicted, right [n, E], which experts named y
    (NaN: it abstained), and scored [n], the class answered. To a label whose event is kept the answer is the one of
    then. spare [E] is scratch.
    """
    last, apart = np.empty(g.last.shape[0]), np.zeros(a.geometric.shape[0])
    experts = row.p[1 + N_GATES : 1 + N_GATES + right.shape[1]]
    for t in range(y.shape[0]):
        comes_late = a.share[0] > FORGOTTEN
        slot, delay = take(ring, tickets[t]) if y[t] >= 0 and tickets[t] >= 0 else -1, 0
        if slot >= 0:  # what is said now is of no use
            recall(ring, slot, row, late)
            weigh(a, late)
            delay = g.learnt[0] - ring.learnt[slot]
        else:
            mix(g, proba, t, row, spare)
            if comes_late or (y[t] < 0 and tickets[t] >= 0):
                answer_late(a, row, late)
            if a.share[0] > ENOUGH:
                copy(late.answer, row.answer)
        copy(row.answer, answers[t])
        apart[:] = 0.0
        if a.share[0] > ENOUGH:
            late_shares(g, late, last, apart)
            expert_shares(g, a, last, apart, experts, spare, shares[t])
        else:
            expert_shares(g, a, g.last, apart, experts, spare, shares[t])
        right[t], scored[t] = 0.0, 0
        if y[t] < 0:
            if tickets[t] >= 0:
                keep(ring, put(ring, tickets[t], g.learnt[0]), late, row.answer)
            continue
        scored[t] = np.argmax(row.answer)
        for e in range(right.shape[1]):
            right[t, e] = np.nan if math.isnan(experts[e, 0]) else np.float32(np.argmax(experts[e]) == y[t])
        if slot >= 0 or comes_late:
            a.share[0] += SHARE_RATE * ((slot >= 0) - a.share[0])
            learn_late(a, row, late, y[t], delay, weight[t])
        learn(g, row, y[t], delay, weight[t])
