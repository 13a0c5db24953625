"""The application's own routes: probes, models, metrics, its schema, other origins."""

from __future__ import annotations

import asyncio

import pytest

from components.model_server.engine.metrics import Metrics
from tests.components.model_server.http.application import BODY, END, ScriptedEngine, application, call

ORIGIN = "http://localhost:5173"


@pytest.mark.parametrize("path", ["/readyz", "/health", "/v1/health"])
@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
def test_readiness_is_the_engines(path, ready, status):
    assert call(application(ScriptedEngine(ready=ready)), "GET", path).status_code == status


@pytest.mark.parametrize(("alive", "status"), [(True, 200), (False, 503)])
def test_liveness_is_the_engines_and_not_its_readiness(alive, status):
    assert call(application(ScriptedEngine(alive=alive, ready=False)), "GET", "/livez").status_code == status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/v1/models", "/v1/models/m", "/health"])
def test_what_can_be_read_has_a_head(path):
    app = application(ScriptedEngine())
    head, whole = call(app, "HEAD", path), call(app, "GET", path)
    assert (head.status_code, whole.status_code) == (200, 200)
    assert head.headers["Content-Type"] == whole.headers["Content-Type"]


def test_the_served_model_is_listed_with_its_figures():
    app = application(ScriptedEngine())
    (listed,) = call(app, "GET", "/v1/models").json()["data"]
    assert listed == call(app, "GET", "/v1/models/m").json() == call(app, "GET", "/v1/models/m-Q8_0").json()
    assert (listed["id"], listed["object"], listed["owned_by"]) == ("m", "model", "lorry")
    assert listed["meta"] == {"n_ctx": 256, "default_generation_settings": {}, "example_prompts": ["Hi?"]}


def test_metrics_are_in_prometheus_form():
    metrics = Metrics()
    metrics.set_model_name("m")
    response = call(application(ScriptedEngine(), metrics=metrics), "GET", "/metrics")
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    assert 'lorry_model_info{model_name="m"} 1.0' in response.text


def test_the_schema_names_the_errors_of_a_completion():
    paths = call(application(ScriptedEngine()), "GET", "/openapi.json").json()["paths"]
    for path in ("/v1/chat/completions", "/v1/completions"):
        assert {"400", "401", "404", "413", "415", "429", "503"} <= set(paths[path]["post"]["responses"])


def test_a_preflight_request_needs_no_key_and_other_origins_are_not_allowed():
    app = application(ScriptedEngine(END), {"key-1": "a-key-of-the-tests-000"}, cors_origins=[ORIGIN])
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization,content-type"}  # fmt: skip
    allowed = call(app, "OPTIONS", headers=asked)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)
    assert "authorization" in allowed.headers["Access-Control-Allow-Headers"]
    refused = call(app, json=BODY, headers={"Origin": ORIGIN})
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    stranger = call(app, "OPTIONS", headers={**asked, "Origin": "http://elsewhere"})
    assert "Access-Control-Allow-Origin" not in stranger.headers


def test_without_origins_no_page_may_call_it():
    response = call(application(ScriptedEngine()), "GET", "/v1/models", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in response.headers


def test_the_end_of_the_application_closes_the_engine():
    engine = ScriptedEngine()
    app = application(engine)

    async def scenario() -> None:
        async with app.router.lifespan_context(app):
            assert not engine.closed

    asyncio.run(scenario())
    assert engine.closed
