"""The loan applicants of Agrawal, Imielinski and Swami, Database Mining: A Performance Perspective, TKDE 5(6), 1993.

Nine attributes, ten functions that decide between group A (class 0) and group B, and a perturbation of what is
shown: the group belongs to the values before it.
"""

from __future__ import annotations

import math

from stream_moe.runtime.compiled import compiled
from stream_moe.streams.java_random import next_double, next_int


@compiled
def fill_agrawal(random, function, perturbation, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, 9], y int32 [n].

    The columns are salary, commission, age, elevel, car, zipcode, hvalue, hyears, loan; `perturbation` is the largest
    change of a number as a share of its range.
    """
    for t in range(len(y)):
        salary = 20_000.0 + 130_000.0 * next_double(random, 0)
        commission = 0.0 if salary >= 75_000.0 else 10_000.0 + 65_000.0 * next_double(random, 0)
        age = 20.0 + next_int(random, 0, 61)
        elevel = next_int(random, 0, 5)
        car = next_int(random, 0, 20)
        zipcode = next_int(random, 0, 9)
        price = (9.0 - zipcode) * 100_000.0  # of a house there, from half to one and a half times as much
        hvalue = price * (0.5 + next_double(random, 0))
        hyears = 1.0 + next_int(random, 0, 30)
        loan = next_double(random, 0) * 500_000.0
        if function <= 6:
            in_a = _in_group_a(function, salary, commission, age, elevel, loan)
        else:
            in_a = _disposable(function, salary, commission, elevel, hvalue, hyears, loan) > 0.0
        y[t] = 0 if in_a else 1
        if perturbation > 0.0:
            salary = _perturbed(random, salary, 130_000.0, 20_000.0, 150_000.0, perturbation)
            if commission > 0.0:
                commission = _perturbed(random, commission, 65_000.0, 10_000.0, 75_000.0, perturbation)
            age = math.floor(_perturbed(random, age, 60.0, 20.0, 80.0, perturbation) + 0.5)
            hvalue = _perturbed(random, hvalue, price, 0.0, 135_000.0, perturbation)  # clipped so in MOA
            hyears = math.floor(_perturbed(random, hyears, 29.0, 1.0, 30.0, perturbation) + 0.5)
            loan = _perturbed(random, loan, 500_000.0, 0.0, 500_000.0, perturbation)
        x[t, 0], x[t, 1], x[t, 2] = salary, commission, age
        x[t, 3], x[t, 4], x[t, 5] = elevel, car, zipcode
        x[t, 6], x[t, 7], x[t, 8] = hvalue, hyears, loan


@compiled
def _perturbed(random, value, extent, low, high, perturbation):  # type: ignore[no-untyped-def]
    moved = value + extent * (2.0 * (next_double(random, 0) - 0.5)) * perturbation
    return min(max(moved, low), high)


@compiled
def _in_group_a(function, salary, commission, age, elevel, loan):  # type: ignore[no-untyped-def]
    """Functions 1 to 6: by three stages of life, a band of one attribute, which another may move."""
    stage = 0 if age < 40.0 else 1 if age < 60.0 else 2
    if function == 1:
        return stage != 1
    schooled = elevel <= 1 if stage == 0 else 1 <= elevel <= 3 if stage == 1 else elevel >= 2
    if function == 3:
        return schooled
    income = salary + commission if function == 6 else salary
    bottom = 50_000.0 if stage == 0 else 75_000.0 if stage == 1 else 25_000.0
    if function == 4:  # the schooled of stages 0 and 1 have the lower of two bands, those of stage 2 the higher
        bottom = 50_000.0 if stage == 1 else 25_000.0
        if schooled == (stage == 2):
            bottom += 25_000.0
    in_band = bottom <= income <= bottom + 50_000.0
    if function != 5:
        return in_band
    if stage == 2:
        owes = 300_000.0 if in_band else 100_000.0
    else:
        owes = 100_000.0 * (stage + 1) if in_band else 100_000.0 * (stage + 2)
    return owes <= loan <= owes + 200_000.0


@compiled
def _disposable(function, salary, commission, elevel, hvalue, hyears, loan):  # type: ignore[no-untyped-def]
    """Functions 7 to 10: what is left of the income."""
    left = 2.0 * (salary + commission) / 3.0
    if function >= 8:
        left -= 5_000.0 * elevel
    if function == 7 or function == 9:  # noqa: PLR1714 (numba compiles no set)
        left -= loan / 5.0
    if function == 10 and hyears >= 20.0:
        left += hvalue * (hyears - 20.0) / 50.0
    return left - (20_000.0 if function <= 8 else 10_000.0)
