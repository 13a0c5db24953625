"""Where a step runs on a cluster: on which pool of nodes, with which image, volumes and secrets.

``kfp.local`` ignores all of it, so the same document runs on one machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from kfp import dsl, kubernetes

from components.storage.container_registry import PASSWORD_VARIABLE, USER_VARIABLE
from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE
from pipelines.config.addresses import VOLUMES, pod_path
from pipelines.config.pools import SPOT_LABEL, STORE_VARIABLES, Placement, Pool, Toleration
from pipelines.config.steps import STEPS, Step
from pipelines.graph.images import PREFIX, ImageSettings, load_settings, reference, step_fingerprint

CHECKPOINTS = "/checkpoints"
# Where the split runs when it asks the base model: perplexity takes torch.
MODEL_IMAGE = "train"
HUB_CACHE = "/hub-cache"
# What Kubeflow writes the run's id on each of its pods with.
RUN_LABEL = "pipeline/runid"
# The images' user and group.
USER = 10001


class StepPlacer:
    """Adds steps to one graph, each on its pool. Without a placement they keep only their images' names."""

    def __init__(
        self,
        placement: Placement | None,
        claims: Iterable[str] = (),
        *,
        split_with_model: bool = False,
        store: str | None = None,
        no_reuse: Collection[str] = (),
        run_key: str | None = None,
    ) -> None:
        """``claims`` are the PVCs, beside checkpoints and cache, that the run's addresses name.

        ``split_with_model``: the split measures perplexity, which takes torch and a base model. ``store`` is the run's,
        as its recipe names it; ``no_reuse`` are the steps that always run. With a ``run_key`` publishing is reused too:
        its figures are kept under that key, and not under the id of each run.

        Raises:
            RecipeError: the image settings cannot be used.
        """
        self.placement = placement
        self.image_settings = None if placement is None else load_settings()
        self.split_with_model = split_with_model
        self.claims = sorted(set(claims))
        self.store = store
        self.no_reuse = no_reuse
        self.run_key = run_key
        self.added: set[str] = set()

    def require_all(self, steps: Iterable[Step]) -> None:
        """Check that the graph has a call for each of ``steps``: settings of a step that never runs would be lost.

        Raises:
            ValueError: one is missing.
        """
        if missing := [step.name for step in steps if step.name not in self.added]:
            raise ValueError(f"{missing[0]}: stands in pipelines/config/steps.py without a call in pipelines/graph")

    def add(self, component: dsl.base_component.BaseComponent, **inputs: Any) -> dsl.PipelineTask:
        """The task of a step: ``component`` with ``inputs`` and the fingerprint of its code, on the step's pool."""
        step = STEPS.get(component.name.replace("-", "_"))
        if step is None:
            raise ValueError(f"{component.name}: is in the graph, and not in pipelines/config/steps.py")
        if "code" not in (component.component_spec.inputs or {}):
            raise TypeError(f"components/{step.name}/component.py: the component needs a parameter code: str")
        self.added.add(step.name)
        task = component(**{"code": self.fingerprint(step.name), **inputs})
        pool = step.pool
        if self._splits_with_model(step.name):
            pool = "gpu"
            task.set_container_image(f"{PREFIX}{MODEL_IMAGE}")
        if (step.always_runs and self.run_key is None) or step.name in self.no_reuse:
            task.set_caching_options(False)
        if self.placement is not None:
            self._put_on(self.placement.pools[self.placement.pool if pool == "gpu" else pool], task)
            if step.keeps_checkpoints:
                kubernetes.mount_pvc(task, self.placement.checkpoints_claim, CHECKPOINTS)
            if step.name == "publish_model":
                login = {name: name for name in (USER_VARIABLE, PASSWORD_VARIABLE)}
                kubernetes.use_secret_as_env(task, self.placement.oci_secret, login, optional=True)
        return task

    def fingerprint(self, step: str) -> str:
        """The fingerprint of a step's code and libraries, where the graph runs."""
        image = MODEL_IMAGE if self._splits_with_model(step) else None
        return step_fingerprint(step, self.image_settings, image=image)

    def _splits_with_model(self, step: str) -> bool:
        return step == "split_data" and self.split_with_model

    def _put_on(self, pool: Pool, task: dsl.PipelineTask) -> None:
        assert self.placement is not None
        _request(pool, task)
        _retry(pool, task)
        self._give_storage(task)
        if self.placement.image_pull_secret:
            kubernetes.set_image_pull_secrets(task, [self.placement.image_pull_secret])

    def _give_storage(self, task: dsl.PipelineTask) -> None:
        placement = self.placement
        assert placement is not None
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
        kubernetes.mount_pvc(task, placement.hub_cache_claim, HUB_CACHE)
        task.set_env_variable("HF_HOME", f"{HUB_CACHE}/huggingface").set_env_variable("LORRY_CACHE", HUB_CACHE)
        for claim in self.claims:
            kubernetes.mount_pvc(task, claim, f"{VOLUMES}/{claim}")
        kubernetes.use_secret_as_env(task, placement.hub_secret, {"HF_TOKEN": "HF_TOKEN"}, optional=True)
        same = {name: name for name in STORE_VARIABLES}
        kubernetes.use_secret_as_env(task, placement.store_secret, same, optional=True)
        if self.store is not None:
            # Variables are not among what Kubeflow knows a step again by; a parameter would be.
            kubernetes.use_field_path_as_env(task, RUN_VARIABLE, f"metadata.labels['{RUN_LABEL}']")
            task.set_env_variable(STORE_VARIABLE, pod_path(self.store))


def _request(pool: Pool, task: dsl.PipelineTask) -> None:
    task.set_cpu_request(pool.cpu).set_memory_request(pool.memory).set_memory_limit(pool.memory)
    if pool.gpus:
        task.set_accelerator_type(pool.gpu_resource).set_accelerator_limit(pool.gpus)
        task.set_env_variable("LORRY_GPUS", str(pool.gpus))
    spot = {SPOT_LABEL: "true"} if pool.spot else {}
    for key, value in {**pool.node_selector, **spot}.items():
        kubernetes.add_node_selector(task, key, value)
    spot_toleration = [Toleration(key=SPOT_LABEL, operator="Equal", value="true")] if pool.spot else []
    for toleration in [*pool.tolerations, *spot_toleration]:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if pool.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=pool.shared_memory)


def _retry(pool: Pool, task: dsl.PipelineTask) -> None:
    seconds = 60 * pool.timeout_minutes
    kubernetes.set_timeout(task, seconds)
    # KFP counts the longest time from the first attempt's start, and takes an hour where none is given
    # (kubeflow/pipelines#14245). A growing pause would use that time up in a dozen attempts.
    task.set_retry(pool.max_retries, backoff_duration="60s", backoff_factor=1.0, backoff_max_duration=f"{seconds}s")


def name_images(document: dict[str, Any], settings: ImageSettings) -> None:
    """Put registry and tag on every image that the compiled ``document`` names."""
    for executor in document["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = reference(container["image"].removeprefix(PREFIX), settings)
