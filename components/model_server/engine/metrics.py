"""Figures for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

TTFT_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)
ITL_BUCKETS = (0.01, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1, 2, 5)


class Metrics:
    """One registry for each server; names begin with ``lorry_``."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.first_token_seconds = Histogram(
            "lorry_time_to_first_token_seconds", "From a request's arrival to its first token",
            buckets=TTFT_BUCKETS, registry=registry,
        )  # fmt: skip
        self.inter_token_seconds = Histogram(
            "lorry_inter_token_latency_seconds", "Between two tokens of one answer",
            buckets=ITL_BUCKETS, registry=registry,
        )  # fmt: skip
        self.queue_seconds = Histogram(
            "lorry_queue_seconds", "From a request's arrival to its slot", buckets=TTFT_BUCKETS,
            registry=registry,
        )  # fmt: skip
        self.prompt_tokens = Counter(
            "lorry_prompt_tokens", "Tokens of prompts: computed, or cached (shared with an earlier prompt)", ["kind"],
            registry=registry,
        )  # fmt: skip
        for kind in ("computed", "cached"):
            self.prompt_tokens.labels(kind)
        self.prefix_hits = Counter(
            "lorry_prefix_hits", "Prompts whose beginning was in a slot or in the prefix cache", registry=registry
        )
        self.completion_tokens = Counter("lorry_completion_tokens", "Tokens generated", registry=registry)
        self.finished = Counter("lorry_requests_finished", "Requests by how they ended", ["reason"], registry=registry)
        for reason in ("stop", "length", "error"):
            self.finished.labels(reason)
        self.cancelled = Counter("lorry_requests_cancelled", "Requests whose client went away", registry=registry)
        self.timed_out = Counter(
            "lorry_requests_timed_out", "Requests that took longer than allowed", registry=registry
        )
        self.rejected = Counter("lorry_requests_rejected", "Requests that were refused", ["reason"], registry=registry)
        for reason in ("queue_full", "stopping", "prompt_too_long", "invalid", "unauthorized"):
            self.rejected.labels(reason)

    def set_model_name(self, model_name: str) -> None:
        """Say which model the figures are of."""
        info = Gauge("lorry_model_info", "1, with the served model's name", ["model_name"], registry=self.registry)
        info.labels(model_name).set(1)

    def watch(
        self,
        *,
        waiting: Callable[[], int],
        running: Callable[[], int],
        prefix_cache_bytes: Callable[[], int],
        threads: Callable[[], int],
    ) -> None:
        """Add gauges, whose values are read when Prometheus asks for them."""
        for name, description, value in (
            ("lorry_requests_waiting", "Requests that wait for a slot", waiting),
            ("lorry_requests_running", "Requests that have a slot", running),
            ("lorry_prefix_cache_bytes", "Memory of conversations that left their slot", prefix_cache_bytes),
            ("lorry_threads", "Threads that compute now; fewer beside busy neighbours", threads),
        ):
            Gauge(name, description, registry=self.registry).set_function(value)
