"""Gates for labels that come late: which part to follow when its recent errors are not known yet.

Parts are everything of the prompt gates (level 2, five gates, experts, committee), their answer (level 3), and two
geometric gates of their own. All are judged by what they predicted at the time (`stream_moe.router.gates.waiting`),
when the label comes:

1. *Powers.* What a part's probability is worth when labels are late is learnt: q(c) ~ p(c)^a, a by Newton's steps
   on its log-loss. Most are overconfident (a < 1), as they have not seen the last labels.
2. *Geometric gates.* As the prompt ones, but a step goes down the gradient at today's weights from the predictions
   of then; so steps need not shrink with the delay.
3. *Hedge on errors.* The answer is sum_i v_i q_i, with

       v_i ~ prior_i e^(-errors of i / scale)

   over the labels that came. The scale grows with what following it costs, and with nothing else: after each label,
   `gap` adds the share of the weights that named another class when the event was predicted, less the mix loss
   m = -scale ln sum_i v_i e^(-error of i / scale) of today's weights. Where gap passes scale x ln(parts), the scale
   doubles and gap begins anew. It begins at 1, and doubles too while it is below sqrt(1 + delay) / 4.

An expert that abstained is charged m, so its weight stands still.

Bound. Let T labels come, each after at most d others that were asked for later, to Q parts; D = T (1 + 2 d). Whoever
answers by a class drawn with weights v errs in expectation at most

    errors of i + scale (ln(1 / prior_i) + 2 ln Q) + log2(scale)

for every part i, where scale, the last one, is at most 2 sqrt(D / (8 ln Q)) + 2 (d + 1) / ln Q (or 1). The proof is
in docs/model.md. There is no rate and no memory in it that would have to be chosen.

Sources: hedging whose rate follows its own regret: de Rooij, van Erven, Grunwald, Koolen (2014), Follow the leader if
you can, hedge if you must, section 2 (AdaHedge); under delay: Flaspohler et al. (2021), Online learning with optimism
and delay, section 5 (AdaHedgeD).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.router.gates.kernel import FLOOR, LEAST, N_GATES, GateArrays, Row, descend, geometric_mean
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float64

N_GEOMETRIC = 2  # as the prompt ones: over all inputs, and over the committee and the experts outside it
RATES = (3e-4, 1e-3)
MEMORY = 0.9997  # of the curvature of a power's log-loss
FIRST_CURVATURE = 10.0  # labels' worth of trust in the power 1
LOWEST, HIGHEST = 0.05, 2.0  # powers
LEAST_WEIGHT = 1e-9  # a part with less has no say, which saves its exponentials
SHARE_RATE = 0.05  # of the moving share of labels that come late
ENOUGH, FORGOTTEN = 0.5, 1e-6  # above: these gates answer; below: they rest


class LateArrays(NamedTuple):
    """State. I = E + 1 inputs; A parts of level 3, Q = A + 1 + N_GEOMETRIC parts here: those, level 3, geometric."""

    geometric: Float64  # [N_GEOMETRIC, I]
    square: Float64  # [N_GEOMETRIC, I]
    power: Float64  # [Q]
    curvature: Float64  # [Q]
    errors: Float64  # [Q] above those of the best part
    scale: Float64  # [1]
    gap: Float64  # [1] since the scale last doubled
    share: Float64  # [1] moving share of labels that come late


class LateRow(NamedTuple):
    """Work space of one event."""

    p: Float64  # [Q, C] what the parts say
    log: Float64  # [Q, C]
    weight: Float64  # [Q] v
    prior: Float64  # [Q], not changed
    votes: Float64  # [C] weight of the parts that name the class
    q: Float64  # [C]
    answer: Float64  # [C]


def new_late(fresh: GateArrays) -> LateArrays:
    """Return late gates beside fresh prompt ones."""
    parts = len(fresh.last) + 1 + N_GEOMETRIC
    return LateArrays(
        geometric=fresh.geometric.copy(),
        square=fresh.square.copy(),
        power=np.ones(parts),
        curvature=np.full(parts, FIRST_CURVATURE),
        errors=np.zeros(parts),
        scale=np.ones(1),
        gap=np.zeros(1),
        share=np.zeros(1),
    )


def new_late_row(n_experts: int, n_classes: int) -> LateRow:
    inputs, gates = n_experts + 1, 1 + N_GATES + 1 + N_GEOMETRIC
    prior = np.full(gates + inputs, 0.5 / inputs)  # half of it to the gates
    prior[: 1 + N_GATES] = prior[1 + N_GATES + inputs :] = 0.5 / gates
    parts = len(prior)
    return LateRow(
        np.empty((parts, n_classes)), np.empty((parts, n_classes)), np.empty(parts), prior,
        np.empty(n_classes), np.empty(n_classes), np.empty(n_classes),
    )  # fmt: skip


@compiled
def take_over(a: LateArrays, row: Row, late: LateRow) -> None:
    """Have what the prompt gates say as parts, and ask the geometric gates."""
    prompt = row.p.shape[0]
    for c in range(row.answer.shape[0]):
        for i in range(prompt):
            late.p[i, c] = row.p[i, c]
        late.p[prompt, c] = row.answer[c]
    for k in range(N_GEOMETRIC):
        geometric_mean(a.geometric[k], row.log[N_GATES:], late.p[prompt + 1 + k])


@compiled
def logarithms_of(row: Row, late: LateRow) -> None:
    """Fill late.log; those of the prompt gates and the inputs are known."""
    known = row.log.shape[0]
    for i in range(late.p.shape[0]):
        for c in range(late.p.shape[1]):
            if 1 <= i <= known:
                late.log[i, c] = row.log[i - 1, c]
            else:
                late.log[i, c] = math.log(max(late.p[i, c], LEAST))


@compiled
def weigh(a: LateArrays, late: LateRow) -> None:
    """Weights of the parts that do not abstain, summing to 1."""
    least = math.inf
    for i in range(late.p.shape[0]):
        if not math.isnan(late.p[i, 0]):
            least = min(least, a.errors[i])
    total = 0.0
    for i in range(late.p.shape[0]):
        late.weight[i] = 0.0
        if not math.isnan(late.p[i, 0]):
            late.weight[i] = late.prior[i] * math.exp((least - a.errors[i]) / a.scale[0])
            total += late.weight[i]
    for i in range(late.p.shape[0]):
        late.weight[i] /= total


@compiled
def raised(log: Float64, power: float, q: Float64) -> None:
    """q ~ p^power, from the logarithms of p [C]."""
    top = log[0]
    for c in range(1, q.shape[0]):
        top = max(top, log[c])
    total = 0.0
    for c in range(q.shape[0]):
        q[c] = math.exp(power * (log[c] - top))
        total += q[c]
    for c in range(q.shape[0]):
        q[c] /= total


@compiled
def answer_late(a: LateArrays, row: Row, late: LateRow) -> None:
    """Fill `late` for the event that `row` was filled with."""
    take_over(a, row, late)
    logarithms_of(row, late)
    weigh(a, late)
    late.answer[:] = 0.0
    late.votes[:] = 0.0
    for i in range(late.p.shape[0]):
        if late.weight[i] < LEAST_WEIGHT:
            continue
        late.votes[np.argmax(late.p[i])] += late.weight[i]
        raised(late.log[i], a.power[i], late.q)
        for c in range(late.q.shape[0]):
            late.answer[c] += late.weight[i] * late.q[c]
    for c in range(late.answer.shape[0]):
        late.answer[c] = (late.answer[c] + FLOOR) / (1.0 + late.answer.shape[0] * FLOOR)


@compiled
def learn_powers(a: LateArrays, late: LateRow, y: int, weight: float) -> None:
    """One step of Newton's for each part that has a say."""
    for i in range(late.p.shape[0]):
        if late.weight[i] < LEAST_WEIGHT:
            continue
        raised(late.log[i], a.power[i], late.q)
        mean, square = 0.0, 0.0
        for c in range(late.q.shape[0]):
            mean += late.q[c] * late.log[i, c]
            square += late.q[c] * late.log[i, c] ** 2
        trust = MEMORY * a.curvature[i] + (1.0 - MEMORY) * FIRST_CURVATURE
        a.curvature[i] = trust + weight * max(square - mean * mean, 0.0)
        step = weight * (mean - late.log[i, y]) / a.curvature[i]
        a.power[i] = min(max(a.power[i] - step, LOWEST), HIGHEST)


@compiled
def learn_errors(a: LateArrays, late: LateRow, y: int, delay: int, weight: float) -> None:
    """Charge the parts; late.weight are today's weights of those that had not abstained."""
    parts = late.p.shape[0]
    kept = 0.0
    for i in range(parts):
        kept += late.weight[i] * (1.0 if np.argmax(late.p[i]) == y else math.exp(-weight / a.scale[0]))
    loss = -a.scale[0] * math.log(kept)
    least = math.inf
    for i in range(parts):
        if math.isnan(late.p[i, 0]):
            a.errors[i] += loss
        elif np.argmax(late.p[i]) != y:
            a.errors[i] += weight
        least = min(least, a.errors[i])
    for i in range(parts):
        a.errors[i] -= least
    a.gap[0] += max(weight * (1.0 - late.votes[y]) - loss, 0.0)
    if a.gap[0] > a.scale[0] * math.log(parts):
        a.scale[0], a.gap[0] = 2.0 * a.scale[0], 0.0
    while a.scale[0] < math.sqrt(1.0 + delay) / 4.0:
        a.scale[0] *= 2.0


@compiled
def learn_late(a: LateArrays, row: Row, late: LateRow, y: int, delay: int, weight: float) -> None:
    """Learn the label of the event that `row`, late.p and late.votes are of, `delay` labels ago; as `learn`."""
    logarithms_of(row, late)
    learn_errors(a, late, y, delay, weight)
    learn_powers(a, late, y, weight)
    logs = row.log[N_GATES:]
    for k in range(N_GEOMETRIC):
        geometric_mean(a.geometric[k], logs, late.q)
        descend(a.geometric[k], a.square[k], logs, late.q, y, RATES[k] * weight)
