"""A Kubeflow Pipelines endpoint: submit a document, look at a run. KFP's own generated client speaks to it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import kfp_server_api
import urllib3
from ruamel.yaml import YAML

from components.errors import ClusterError

SECONDS_TO_ANSWER = 30
WAY = "kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8081:80"
T = TypeVar("T")

_TOKEN = re.compile(r"[\x21-\x7e]+")


class RefusedError(ClusterError):
    """The endpoint has understood, and says no: asking again does not help."""


class Kubeflow:
    """One endpoint, as one user sees it."""

    def __init__(self, endpoint: str, token: str | None, namespace: str | None) -> None:
        """``token`` is a bearer token; ``namespace`` is needed where Kubeflow serves several users.

        Raises:
            ClusterError: the endpoint is no address, or the token no header's value.
        """
        self.endpoint = endpoint.strip().rstrip("/")
        if not self.endpoint.startswith(("http://", "https://")):
            raise ClusterError(f"--endpoint {endpoint}: not an address; it begins with http:// or https://")
        self.namespace = namespace
        configuration = kfp_server_api.Configuration(host=self.endpoint)
        # A lost connection is this module's to report, and a redirect leads to a login page.
        configuration.retries = urllib3.Retry(connect=0, read=0, redirect=0)
        if token := (token or "").strip():
            if not _TOKEN.fullmatch(token):
                raise ClusterError("KFP_TOKEN: holds characters that no token has; set it again")
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        client = kfp_server_api.ApiClient(configuration)
        self._runs = kfp_server_api.RunServiceApi(client)
        self._experiments = kfp_server_api.ExperimentServiceApi(client)

    def page_of(self, run_id: str) -> str:
        """The run's address in the browser."""
        return f"{self.endpoint}/#/runs/details/{run_id}"

    def submit(self, document: Path, arguments: dict[str, Any], name: str, experiment_id: str) -> str:
        """Start a run of a compiled document in an experiment; give the run's id.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        spec, *platform = YAML(typ="safe", pure=True).load_all(document.read_text(encoding="utf-8"))
        body = kfp_server_api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_spec={"pipeline_spec": spec, "platform_spec": platform[0]} if platform else spec,
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=arguments),
        )
        create = self._runs.run_service_create_run
        return self._required(self._ask(lambda: create(body, _request_timeout=SECONDS_TO_ANSWER)).run_id)

    def run(self, run_id: str) -> kfp_server_api.V2beta1Run:
        """A run as it stands.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        run = self._ask(lambda: self._runs.run_service_get_run(run_id, _request_timeout=SECONDS_TO_ANSWER))
        self._required(run.run_id)
        return run

    def terminate(self, run_id: str) -> None:
        """End a run: its pods are asked to stop, and training writes a checkpoint first.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        self.run(run_id)  # a run that is not there is said as such
        self._ask(lambda: self._runs.run_service_terminate_run(run_id, _request_timeout=SECONDS_TO_ANSWER))

    def experiment_id(self, name: str) -> str:
        """The id of an experiment, which is made when it is not there.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        named = {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
        options = {"filter": json.dumps(named), "_request_timeout": SECONDS_TO_ANSWER}
        if self.namespace:
            options["namespace"] = self.namespace
        found = self._ask(lambda: self._experiments.experiment_service_list_experiments(**options)).experiments
        if found:
            return self._required(found[0].experiment_id)
        new = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        create = self._experiments.experiment_service_create_experiment
        return self._required(self._ask(lambda: create(new, _request_timeout=SECONDS_TO_ANSWER)).experiment_id)

    def _required(self, value: str | None) -> str:
        """A field that every answer of Kubeflow has: the client makes an empty object of any other page."""
        if not value:
            raise RefusedError(
                f"{self.endpoint}: answers, but not as Kubeflow does: it is another server, or a login page; "
                "set KFP_TOKEN, or mend --endpoint"
            )
        return str(value)

    def _ask(self, request: Callable[[], T]) -> T:
        try:
            return request()
        except kfp_server_api.ApiException as error:
            kind = RefusedError if 400 <= (error.status or 0) < 500 else ClusterError
            raise kind(self._refusal(error)) from error
        except urllib3.exceptions.MaxRetryError as error:
            if isinstance(error.reason, urllib3.exceptions.ResponseError):  # too many redirects: more than none
                raise RefusedError(f"{self.endpoint}: leads to a login page; set KFP_TOKEN to a valid token") from error
            raise self._silent(error.reason or error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._silent(error) from error

    def _silent(self, reason: Exception) -> ClusterError:
        return ClusterError(
            f"{self.endpoint}: does not answer ({_plain(str(reason))}); check --endpoint and the network, or open "
            f"a way to it: {WAY}"
        )

    def _refusal(self, error: kfp_server_api.ApiException) -> str:
        said = _said(error)
        if error.status in (401, 403):
            may = f"may use the namespace {self.namespace}" if self.namespace else "it takes"
            several = "" if self.namespace else "; where it serves several users, give --namespace too"
            return (
                f"{self.endpoint}: refuses the token ({error.status}: {said}); set KFP_TOKEN to one that {may}{several}"
            )
        if error.status in (400, 404) and "namespace" in said.lower():
            return f"{self.endpoint}: namespace {self.namespace!r}: {said}; name one that is there with --namespace"
        if error.status == 404:
            return (
                f"{self.endpoint}: answers 404: {said}; is that Kubeflow? mend --endpoint, or open a way to it: {WAY}"
            )
        return f"{self.endpoint}: answers {error.status}: {said}; its own log (deployment ml-pipeline) says more"


def _said(error: kfp_server_api.ApiException) -> str:
    try:
        body = json.loads(error.body)
        return _plain(str(body.get("error_message") or body.get("message") or body.get("error") or error.reason))
    except (ValueError, TypeError, AttributeError):
        return _plain(str(error.reason))


def _plain(text: str) -> str:
    return " ".join(text.split())[:300]
