"""Online gates: from the predictions of E experts to one answer, learnt event by event, in three levels.

Inputs are the E experts and the committee (the mean of the experts of the largest kind, the trees).

1. Five gates, none of which wins everywhere. `ALL` and `KINDS` are geometric: log p(c) = sum_i w_i log
   p_i(c) + const, w by online gradient on the log-loss; ALL over every input, KINDS over the committee and
   the experts outside it. `FAST` and `SLOW` are fixed-share mixtures, `RECENT` weighs each expert by e^(20 x
   its recent accuracy).
2. One geometric gate over those five, the committee and the experts outside it.
3. One fixed-share mixture over everything there is: level 2 (prior 1/2), the five gates and all inputs. Its
   weight for part i is the posterior of "i is right for now", and with it comes the bound: over any T
   events and for every part i of prior p_i, the sum of the mixture's log-losses is at most

       sum of i's log-losses + ln(1 / p_i) + T (ln(1 / (1 - SWITCH)) + C FLOOR)

   and each change of the part compared with costs ln(1 / (SWITCH p_j)) more.

An expert whose prediction is NaN (asleep, see `stream_moe.router.gates.sleep`, or broken) abstains: the others
answer, its weights stand still, and the bound holds over the events that it predicted.

Under a label delay of d events every level learns from the predictions made at the time, with its
step, or the exponent of its posterior and what it gives back to the prior, divided by sqrt(1 + d): the choice that
keeps the regret of delayed gradients at sqrt(1 + d) times that of prompt ones (Joulani et al., 2013). So slow a
posterior can afford to count errors as well, which for one label are mostly noise: at level 3 a wrong name counts
as BLAME (1 - 1 / sqrt(1 + d)) nats. The bound above is for d = 0.

Sources: geometric mixing by gradient: Mattern (2013), Linear and geometric mixtures, as in PAQ's mixers;
fixed share: Herbster and Warmuth (1998), Tracking the best expert.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Bool, Float64, Int64

N_GATES = 5
ALL, KINDS, FAST, SLOW, RECENT = range(N_GATES)
RATE = 1e-3  # of geometric weights, in units of the root mean square gradient
MEMORY = 0.999  # of that mean square
FIRST_SQUARE = 1e-2
START = 1.5  # sum of a geometric gate's first weights: experts that err apart deserve more than their mean
SHARES = (0.2, 0.05)  # of FAST and SLOW
SHARPNESS, ACCURACY_RATE = 20.0, 0.01  # of RECENT
LEAST = 1e-3  # probabilities are raised to this before their logarithm is taken
FLOOR, SWITCH, FIRST_PRIOR = 1e-4, 1e-4, 0.5  # of level 3
BLAME = 3.0  # nats at level 3 for a wrong name under a long delay
LOSS_RATE = 1e-3


class GateArrays(NamedTuple):
    """State. I = E + 1 inputs, the committee last; A = 1 + N_GATES + I parts of level 3."""

    geometric: Float64  # [2, I] weights of ALL and KINDS
    square: Float64  # [2, I] mean squares of their gradients
    share: Float64  # [2, E] weights of FAST and SLOW
    accuracy: Float64  # [E] recent accuracy
    second: Float64  # [N_GATES + I]
    second_square: Float64  # [N_GATES + I]
    last: Float64  # [A]
    loss: Float64  # [1] moving log-loss of the answer, NaN before the first label
    learnt: Int64  # [1] labels
    member: Bool  # [E] whether the expert is in the committee


class Row(NamedTuple):
    """Work space of one event."""

    p: Float64  # [A, C] predictions of the parts: level 2, the gates, the inputs
    log: Float64  # [N_GATES + I, C] of the gates and the inputs
    answer: Float64  # [C]


def new_gates(member: Bool) -> GateArrays:
    """Return fresh gates over experts, of which `member` [E] sit in the committee."""
    e = len(member)
    n_inputs = e + 1
    apart = np.append(~member, True)
    geometric = np.stack([np.full(n_inputs, START / n_inputs), np.where(apart, START / apart.sum(), 0.0)])
    second = np.append(np.ones(N_GATES), apart)
    return GateArrays(
        geometric=geometric,
        square=np.full((2, n_inputs), FIRST_SQUARE),
        share=np.full((2, e), 1.0 / e),
        accuracy=np.full(e, 0.5),
        second=second * START / second.sum(),
        second_square=np.full(N_GATES + n_inputs, FIRST_SQUARE),
        last=prior(1 + N_GATES + n_inputs),
        loss=np.full(1, np.nan),
        learnt=np.zeros(1, np.int64),
        member=member,
    )


def new_row(n_experts: int, n_classes: int) -> Row:
    inputs = N_GATES + n_experts + 1
    return Row(np.empty((1 + inputs, n_classes)), np.empty((inputs, n_classes)), np.empty(n_classes))


def prior(n_parts: int) -> Float64:
    """Prior of level 3's parts, [A]."""
    return np.append(FIRST_PRIOR, np.full(n_parts - 1, (1.0 - FIRST_PRIOR) / (n_parts - 1)))


@compiled
def geometric_mean(weight: Float64, log: Float64, out: Float64) -> None:
    """out [C] = softmax of the weighted sum of log [I, C]."""
    out[:] = 0.0
    for i in range(weight.shape[0]):
        if weight[i] != 0.0:
            if math.isnan(log[i, 0]):
                continue
            for c in range(out.shape[0]):
                out[c] += weight[i] * log[i, c]
    top, total = out.max(), 0.0
    for c in range(out.shape[0]):
        out[c] = math.exp(out[c] - top)
        total += out[c]
    for c in range(out.shape[0]):
        out[c] /= total


@compiled
def descend(weight: Float64, square: Float64, log: Float64, out: Float64, y: int, rate: float) -> None:
    """One step down the gradient of -log out[y]; a weight that starts at exactly 0 does not take part."""
    for i in range(weight.shape[0]):
        if weight[i] == 0.0 or math.isnan(log[i, 0]):
            continue
        gradient = -log[i, y]
        for c in range(out.shape[0]):
            gradient += out[c] * log[i, c]
        square[i] = MEMORY * square[i] + (1.0 - MEMORY) * gradient * gradient
        weight[i] -= rate * gradient / math.sqrt(square[i] + 1e-8)


@compiled
def arithmetic_mean(weight: Float64, p: Float64, out: Float64) -> None:
    """out [C] = weighted mean of p [I, C]; uniform if everybody abstains."""
    total = 0.0
    for i in range(weight.shape[0]):
        total += 0.0 if math.isnan(p[i, 0]) else weight[i]
    out[:] = 0.0 if total > 0.0 else 1.0 / out.shape[0]
    for i in range(weight.shape[0]):
        if math.isnan(p[i, 0]):
            continue
        for c in range(out.shape[0]):
            out[c] += weight[i] / total * p[i, c]


@compiled
def recent_weights(accuracy: Float64, out: Float64) -> None:
    top = accuracy.max()
    for e in range(accuracy.shape[0]):
        out[e] = math.exp(SHARPNESS * (accuracy[e] - top))


@compiled
def logarithms(row: Row, start: int, stop: int) -> None:
    for i in range(start, stop):
        if math.isnan(row.p[1 + i, 0]):
            row.log[i, :] = np.nan
            continue
        for c in range(row.log.shape[1]):
            row.log[i, c] = math.log(max(row.p[1 + i, c], LEAST))


@compiled
def mix(g: GateArrays, proba: Float64, t: int, row: Row, spare: Float64) -> None:
    """Fill `row` from proba [E, n, C] at event t. spare [E] is scratch."""
    n_experts, n_classes = proba.shape[0], proba.shape[2]
    first, inputs = row.p[1 : 1 + N_GATES], row.p[1 + N_GATES :]
    committee = inputs[n_experts]
    committee[:] = 0.0
    members = 0
    for e in range(n_experts):
        valid = True
        for c in range(n_classes):
            valid &= 0.0 <= proba[e, t, c] <= 1.0
        if not valid:  # asleep, or broken: it must not spoil the rest
            inputs[e, :] = np.nan
            continue
        members += g.member[e]
        for c in range(n_classes):
            inputs[e, c] = proba[e, t, c]
            if g.member[e]:
                committee[c] += inputs[e, c]
    for c in range(n_classes):
        committee[c] = committee[c] / members if members > 0 else np.nan
    logarithms(row, N_GATES, row.log.shape[0])
    logs = row.log[N_GATES:]
    experts = inputs[:n_experts]
    geometric_mean(g.geometric[0], logs, first[ALL])
    geometric_mean(g.geometric[1], logs, first[KINDS])
    arithmetic_mean(g.share[0], experts, first[FAST])
    arithmetic_mean(g.share[1], experts, first[SLOW])
    recent_weights(g.accuracy, spare)
    arithmetic_mean(spare, experts, first[RECENT])
    logarithms(row, 0, N_GATES)
    geometric_mean(g.second, row.log, row.p[0])
    arithmetic_mean(g.last, row.p, row.answer)
    for c in range(n_classes):
        row.answer[c] = (row.answer[c] + FLOOR) / (1.0 + n_classes * FLOOR)


@compiled
def share_posterior(
    weight: Float64, p: Float64, y: int, power: float, floor: float, switch: float, first: float, blame: float
) -> None:
    """Bayes' rule on weight, likelihoods to this power; then a part `switch` of it goes back to the prior.

    A part that names another class than y loses `blame` nats of likelihood besides. The prior is `first` for part 0
    and equal for the rest. A part that abstains keeps its weight; the others share theirs.
    """
    n = weight.shape[0]
    scale = 1.0 + p.shape[1] * floor
    held, total, backs = 0.0, 0.0, 0.0
    for i in range(n):
        if math.isnan(p[i, 0]):
            continue
        held += weight[i]
        backs += first if i == 0 else (1.0 - first) / (n - 1)
        likelihood = (p[i, y] + floor) / scale
        if blame > 0.0 and np.argmax(p[i]) != y:
            likelihood *= math.exp(-blame)
        weight[i] *= likelihood if power == 1.0 else likelihood**power
        total += weight[i]
    for i in range(n):
        if math.isnan(p[i, 0]):
            continue
        back = first if i == 0 else (1.0 - first) / (n - 1)
        weight[i] = held * ((1.0 - switch) * weight[i] / total + switch * back / backs)


@compiled
def learn(g: GateArrays, row: Row, y: int, delay: int, weight: float) -> None:
    """Update every level on the label of the event that `row` was filled with, `delay` labels ago.

    The label counts as `weight` of one, in 0..1: in the steps, and in the exponents of the posteriors. At 1.0 that
    changes no bit. A weight above would break the bound, and let one label decide.
    """
    n_experts = g.accuracy.shape[0]
    first, experts = row.p[1 : 1 + N_GATES], row.p[1 + N_GATES : 1 + N_GATES + n_experts]
    logs = row.log[N_GATES:]
    trust = 1.0 / math.sqrt(1.0 + delay)
    power = trust * weight
    rate = RATE * power
    share_posterior(g.last, row.p, y, power, FLOOR, SWITCH * trust, FIRST_PRIOR, BLAME * (1.0 - trust))
    descend(g.second, g.second_square, row.log, row.p[0], y, rate)
    descend(g.geometric[0], g.square[0], logs, first[ALL], y, rate)
    descend(g.geometric[1], g.square[1], logs, first[KINDS], y, rate)
    for k in range(2):
        share_posterior(g.share[k], experts, y, power, LEAST, SHARES[k] * trust, 1.0 / n_experts, 0.0)
    for e in range(n_experts):
        if math.isnan(experts[e, 0]):
            continue
        right = 1.0 if np.argmax(experts[e]) == y else 0.0
        g.accuracy[e] += ACCURACY_RATE * power * (right - g.accuracy[e])
    loss = -math.log(row.answer[y])
    g.loss[0] = loss if math.isnan(g.loss[0]) else g.loss[0] + LOSS_RATE * (loss - g.loss[0])
    g.learnt[0] += 1
