"""Where a step runs on a cluster: on which pool of nodes, with which image, volumes and secrets.

``kfp.local`` ignores all of it, so the same document runs on one machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from kfp import dsl, kubernetes

from components.storage.run_notes import RUN_VARIABLE, STORE_VARIABLE
from pipelines.config.addresses import VOLUMES, in_pod
from pipelines.config.pools import SPOT_LABEL, STORE_VARIABLES, Placement, Pool, Toleration
from pipelines.graph.images import PREFIX, ImageSettings, reference
from pipelines.terminal.progress import step_of

CHECKPOINTS = "/checkpoints"
HUB_CACHE = "/hub-cache"
# What Kubeflow writes the run's id on each of its pods with.
RUN_LABEL = "pipeline/runid"
# The images' user and group.
USER = 10001


class Places:
    """Puts the tasks of one graph where they belong. Without a placement they keep only their images' names."""

    def __init__(
        self,
        placement: Placement | None,
        claims: Iterable[str] = (),
        *,
        split_with_model: bool = False,
        store: str | None = None,
        no_reuse: Collection[str] = (),
    ) -> None:
        """``claims`` are the volumes, beside checkpoints and cache, that the run's addresses name.

        ``store`` is the run's, as its recipe names it; ``no_reuse`` are the steps that always run.
        """
        self.placement = placement
        self.split_with_model = split_with_model
        self.claims = sorted(set(claims))
        self.store = store
        self.no_reuse = no_reuse

    def on_cpu(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """A step that needs no GPU, but memory and cores."""
        return self._on("cpu", task)

    def on_small(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """A step that reads and writes."""
        return self._on("small", task)

    def for_split(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """The split: it reads and writes, unless it measures perplexity, which takes torch and a base model."""
        if not self.split_with_model:
            return self.on_small(task)
        return self.on_pool(task.set_container_image(f"{PREFIX}train"))

    def on_pool(self, task: dsl.PipelineTask) -> dsl.PipelineTask:
        """A step that runs on the pool of the recipe."""
        return self._on("" if self.placement is None else self.placement.pool, task)

    def keep_checkpoints(self, task: dsl.PipelineTask) -> None:
        """Give a step the volume with the checkpoints."""
        if self.placement is not None:
            kubernetes.mount_pvc(task, self.placement.checkpoints_claim, CHECKPOINTS)

    def _on(self, name: str, task: dsl.PipelineTask) -> dsl.PipelineTask:
        if step_of(task.name) in self.no_reuse:
            task.set_caching_options(False)
        if self.placement is None:
            return task
        pool = self.placement.pools[name]
        _take(pool, task)
        _retry(pool, task)
        self._give_storage(task)
        if self.placement.image_pull_secret:
            kubernetes.set_image_pull_secrets(task, [self.placement.image_pull_secret])
        return task

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
            task.set_env_variable(STORE_VARIABLE, in_pod(self.store))


def _take(pool: Pool, task: dsl.PipelineTask) -> None:
    task.set_cpu_request(pool.cpu).set_memory_request(pool.memory).set_memory_limit(pool.memory)
    if pool.gpus:
        task.set_accelerator_type(pool.gpu_resource).set_accelerator_limit(pool.gpus)
        task.set_env_variable("LORRY_GPUS", str(pool.gpus))
    spot = {SPOT_LABEL: "true"} if pool.spot else {}
    for key, value in {**pool.node_selector, **spot}.items():
        kubernetes.add_node_selector(task, key, value)
    bears = [Toleration(key=SPOT_LABEL, operator="Equal", value="true")] if pool.spot else []
    for toleration in [*pool.tolerations, *bears]:
        kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
    if pool.shared_memory:
        kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=pool.shared_memory)


def _retry(pool: Pool, task: dsl.PipelineTask) -> None:
    seconds = 60 * pool.timeout_minutes
    kubernetes.set_timeout(task, seconds)
    # KFP counts the longest time from the first attempt's start, and says an hour when it is not told
    # (kubeflow/pipelines#14245). A growing pause would use that time up in a dozen attempts.
    task.set_retry(pool.max_retries, backoff_duration="60s", backoff_factor=1.0, backoff_max_duration=f"{seconds}s")


def name_images(document: dict[str, Any], settings: ImageSettings) -> None:
    """Put registry and tag on every image that the compiled ``document`` names."""
    for executor in document["deploymentSpec"]["executors"].values():
        container = executor["container"]
        container["image"] = reference(container["image"].removeprefix(PREFIX), settings)
