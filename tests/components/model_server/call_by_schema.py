"""Requests that the API's own schema allows (``positive``), or does not (``negative``): none may be a 5xx.

    python -m tests.components.model_server.call_by_schema ADDRESS positive|negative

A process of its own: pytest rewrites schemathesis' many modules while they import each other, and Python 3.11's parser
gives up on that.
"""

from __future__ import annotations

import sys
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

N_EXAMPLES = 60
QUICK = settings(
    max_examples=N_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def main(server: str, mode: GenerationMode) -> None:
    """Call every operation with requests of one mode."""
    model = httpx.get(f"{server}/v1/models").json()["data"][0]["id"]
    seen: dict[str, set[int]] = {}

    def call(case: Any) -> None:
        if isinstance(case.body, dict) and "model" in case.body:
            # Else nearly every request would end with a 404 before it is looked at.
            case.body = {**case.body, "model": model}
            if mode == GenerationMode.POSITIVE:
                limits = ("max_tokens", "max_completion_tokens") if "messages" in case.body else ("max_tokens",)
                case.body |= dict.fromkeys(limits, 4)
        response = case.call(timeout=120)
        case.validate_response(response, checks=[not_a_server_error])
        seen.setdefault(case.operation.label, set()).add(response.status_code)

    for found in schemathesis.openapi.from_url(f"{server}/openapi.json").get_all_operations():
        operation = found.ok()
        if mode == GenerationMode.NEGATIVE and not operation.body:
            continue  # nothing in it could be wrong
        QUICK(given(case=operation.as_strategy(generation_mode=mode))(call))()
    assert {"POST /v1/chat/completions", "POST /v1/completions"} <= set(seen)
    expected = 200 if mode == GenerationMode.POSITIVE else 400
    assert expected in seen["POST /v1/chat/completions"], seen


if __name__ == "__main__":
    main(sys.argv[1], GenerationMode(sys.argv[2]))
