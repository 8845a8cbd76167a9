"""Experts that predict a number: history of the target, linear models, a network, neighbours, trees."""

from __future__ import annotations
