"""The settings of property tests: few examples, the same ones in every run, and no time limit."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

quick = settings(
    max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
