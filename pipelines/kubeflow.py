"""A Kubeflow Pipelines endpoint: submit a document, look at a run. KFP's own generated client speaks to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
import urllib3
from ruamel.yaml import YAML

from components.errors import ClusterError

SECONDS_TO_ANSWER = 30
T = TypeVar("T")


class Kubeflow:
    """One endpoint, as one user sees it."""

    def __init__(self, endpoint: str, token: str | None, namespace: str | None) -> None:
        """``token`` is a bearer token; ``namespace`` is needed where Kubeflow serves several users."""
        self.endpoint = endpoint.rstrip("/")
        self.namespace = namespace
        configuration = kfp_server_api.Configuration(host=self.endpoint)
        # A lost connection is this module's to report, with what to do.
        configuration.retries = urllib3.Retry(connect=0, read=0, redirect=2)
        if token:
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)

    def page_of(self, run_id: str) -> str:
        """The run's address in the browser."""
        return f"{self.endpoint}/#/runs/details/{run_id}"

    def submit(self, document: Path, arguments: dict[str, Any], name: str, experiment: str) -> str:
        """Start a run of a compiled document in an experiment, which is made when it is not there; give the run's id.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        spec, *platform = YAML(typ="safe", pure=True).load_all(document.read_text(encoding="utf-8"))
        body = kfp_server_api.V2beta1Run(
            experiment_id=self._experiment_id(experiment),
            display_name=name,
            pipeline_spec={"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec,
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=arguments),
        )
        return str(
            self._ask(lambda: self._runs.run_service_create_run(body, _request_timeout=SECONDS_TO_ANSWER)).run_id
        )

    def run(self, run_id: str) -> kfp_server_api.V2beta1Run:
        """A run as it stands.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        return self._ask(lambda: self._runs.run_service_get_run(run_id, _request_timeout=SECONDS_TO_ANSWER))

    def _experiment_id(self, name: str) -> str:
        named = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        options = {"filter": json.dumps(named), "_request_timeout": SECONDS_TO_ANSWER}
        if self.namespace:
            options["namespace"] = self.namespace
        found = self._ask(lambda: self._experiments.experiment_service_list_experiments(**options)).experiments
        if found:
            return str(found[0].experiment_id)
        new = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        create = self._experiments.experiment_service_create_experiment
        return str(self._ask(lambda: create(new, _request_timeout=SECONDS_TO_ANSWER)).experiment_id)

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except kfp_server_api.ApiException as error:
            raise ClusterError(self._refusal(error)) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            reason = getattr(error, "reason", None) or error
            raise ClusterError(
                f"{self.endpoint}: does not answer ({_plain(str(reason))}); check --endpoint and the network, or open "
                "a way to it: kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8081:80"
            ) from error

    def _refusal(self, error: kfp_server_api.ApiException) -> str:
        said = _said(error)
        if error.status in (401, 403) or "<html" in str(error.body)[:200].lower():
            return (
                f"{self.endpoint}: refuses the token ({error.status}: {said}); set KFP_TOKEN to a token that may use "
                f"the namespace {self.namespace or '(none given)'}"
            )
        if error.status in (400, 404) and "namespace" in said.lower():
            return f"{self.endpoint}: namespace {self.namespace!r}: {said}; name one that is there with --namespace"
        return f"{self.endpoint}: answers {error.status}: {said}; its own log (deployment ml-pipeline) says more"


def refused(error: ClusterError) -> bool:
    """True when asking again will not help: the endpoint has understood, and says no."""
    cause = error.__cause__
    return isinstance(cause, kfp_server_api.ApiException) and 400 <= (cause.status or 0) < 500


def _said(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body)
        return _plain(str(body.get("error_message") or body.get("message") or body.get("error") or error.reason))
    except (ValueError, TypeError, AttributeError):
        return _plain(str(error.reason))


def _plain(text: str) -> str:
    return " ".join(text.split())[:300]
