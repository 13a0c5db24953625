"""A Kubeflow Pipelines endpoint: submitting a document, reading a run. KFP's own generated client is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import kfp_server_api
from ruamel.yaml import YAML

from pipelines.cluster.endpoint import SECONDS_TO_ANSWER, Endpoint


class Kubeflow(Endpoint):
    """Kubeflow's runs, experiments and recurring runs."""

    def __init__(self, endpoint: str, token: str | None, namespace: str | None) -> None:
        """As an endpoint's.

        Raises:
            ClusterError: the endpoint is no address, or the token no header's value.
        """
        super().__init__(endpoint, token, namespace)
        self._runs = kfp_server_api.RunServiceApi(self._client)
        self._experiments = kfp_server_api.ExperimentServiceApi(self._client)
        self._recurring = kfp_server_api.RecurringRunServiceApi(self._client)

    def health(self) -> dict[str, Any]:
        """Version (``tag_name``) and whether it serves several users (``multi_user``); no login is needed.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        read = kfp_server_api.HealthzServiceApi(self._client).healthz_service_get_healthz
        # The client's own form of the answer leaves the version out.
        answer = self._ask(lambda: json.loads(read(_preload_content=False, _request_timeout=SECONDS_TO_ANSWER).data))
        if not isinstance(answer, dict) or "multi_user" not in answer:
            raise self._foreign()
        return answer

    def check_login(self) -> None:
        """Ask for one experiment, which takes a login where Kubeflow has one.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        options: dict[str, Any] = {"page_size": 1, "_request_timeout": SECONDS_TO_ANSWER}
        if self.namespace:
            options["namespace"] = self.namespace
        self._ask(lambda: self._experiments.experiment_service_list_experiments(**options))

    def page_of(self, run_id: str) -> str:
        """The run's address in the browser."""
        return f"{self.endpoint}/#/runs/details/{run_id}"

    def submit(self, document: Path, arguments: dict[str, Any], name: str, experiment_id: str) -> str:
        """Start a run of a compiled document in an experiment; give the run's id.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        body = kfp_server_api.V2beta1Run(
            experiment_id=experiment_id,
            display_name=name,
            pipeline_spec=pipeline_spec_in(document),
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=arguments),
        )
        create = self._runs.run_service_create_run
        return self._required(self._ask(lambda: create(body, _request_timeout=SECONDS_TO_ANSWER)), "run_id")

    def run(self, run_id: str) -> kfp_server_api.V2beta1Run:
        """A run as it stands.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        run = self._ask(lambda: self._runs.run_service_get_run(run_id, _request_timeout=SECONDS_TO_ANSWER))
        if self._required(run, "run_id") != run_id:
            raise self._foreign()
        return run

    def terminate(self, run_id: str) -> None:
        """End a run: its pods are asked to stop, and training writes a checkpoint first.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        self.run(run_id)  # a run that is not there is an error of its own
        self._ask(lambda: self._runs.run_service_terminate_run(run_id, _request_timeout=SECONDS_TO_ANSWER))

    def retry(self, run_id: str) -> None:
        """Start a run that has failed again, from the steps that failed.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        self._ask(lambda: self._runs.run_service_retry_run(run_id, _request_timeout=SECONDS_TO_ANSWER))

    def runs(self, limit: int, *, experiment_id: str | None = None, with_id: str | None = None) -> list[Any]:
        """The newest ``limit`` runs, newest first: of an experiment, or of those whose id has the text ``with_id``.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        options: dict[str, Any] = {"sort_by": "created_at desc", "_request_timeout": SECONDS_TO_ANSWER}
        if experiment_id:
            options["experiment_id"] = experiment_id
        elif self.namespace:
            options["namespace"] = self.namespace
        if with_id:
            options["filter"] = _filter("IS_SUBSTRING", "run_id", with_id)
        return self._pages(self._runs.run_service_list_runs, "runs", "run_id", limit, options)

    def create_schedule(self, **fields: Any) -> str:
        """Create a recurring run of ``fields`` (of V2beta1RecurringRun); give its id.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        body = kfp_server_api.V2beta1RecurringRun(**fields)
        create = self._recurring.recurring_run_service_create_recurring_run
        return self._required(self._ask(lambda: create(body, _request_timeout=SECONDS_TO_ANSWER)), "recurring_run_id")

    def schedules(self) -> list[Any]:
        """All recurring runs, oldest first.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        options: dict[str, Any] = {"sort_by": "created_at asc", "_request_timeout": SECONDS_TO_ANSWER}
        if self.namespace:
            options["namespace"] = self.namespace
        ask = self._recurring.recurring_run_service_list_recurring_runs
        return self._pages(ask, "recurring_runs", "recurring_run_id", None, options)

    def change_schedule(self, schedule_id: str, change: Literal["enable", "disable", "delete"]) -> None:
        """Let a recurring run start runs, keep it from doing so, or delete it; runs that it started go on.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        ask = getattr(self._recurring, f"recurring_run_service_{change}_recurring_run")
        # Otherwise Kubernetes deletes the workflows with their owner: a run at work ends unseen, and stays RUNNING.
        options = {"propagation_policy": "ORPHAN"} if change == "delete" else {}
        self._ask(lambda: ask(schedule_id, **options, _request_timeout=SECONDS_TO_ANSWER))

    def find_experiment(self, name: str) -> str | None:
        """The id of an experiment, None where there is no such.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        options = {"filter": _filter("EQUALS", "display_name", name), "_request_timeout": SECONDS_TO_ANSWER}
        if self.namespace:
            options["namespace"] = self.namespace
        found = self._ask(lambda: self._experiments.experiment_service_list_experiments(**options))
        experiments = getattr(found, "experiments", None)
        return self._required(experiments[0], "experiment_id") if experiments else None

    def experiment_id(self, name: str) -> str:
        """The id of an experiment, which is made when it is not there.

        Raises:
            ClusterError: the endpoint does not answer, or refuses.
        """
        if (found := self.find_experiment(name)) is not None:
            return found
        new = kfp_server_api.V2beta1Experiment(display_name=name, namespace=self.namespace)
        create = self._experiments.experiment_service_create_experiment
        return self._required(self._ask(lambda: create(new, _request_timeout=SECONDS_TO_ANSWER)), "experiment_id")


def pipeline_spec_in(document: Path) -> dict[str, Any]:
    """A compiled document as the API takes it."""
    spec, *platform = YAML(typ="safe", pure=True).load_all(document.read_text(encoding="utf-8"))
    return {"pipeline_spec": spec, "platform_spec": platform[0]} if platform else dict(spec)


def _filter(operation: str, key: str, value: str) -> str:
    return json.dumps({"predicates": [{"operation": operation, "key": key, "stringValue": value}]})
