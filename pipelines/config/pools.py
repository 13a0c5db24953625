"""Settings of the cluster: the recipe's ``placement`` section, and the pools of nodes that it names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from components.errors import RecipeError

# The keys of the Secret with the store's credentials: the names that obstore and the clouds' own tools read.
STORE_VARIABLES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
)
SPOT_LABEL = "cloud.google.com/gke-spot"


def _as_text(value: Any) -> Any:
    """A number of cores as YAML reads it, as Kubernetes writes it."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
Cores = Annotated[
    str, BeforeValidator(_as_text), Field(pattern=r"^([1-9][0-9]*m|[1-9][0-9]*(\.[0-9]+)?|0\.[0-9]*[1-9])$")
]
Bytes = Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(M|G|T|Mi|Gi|Ti)$")]
LabelKey = Annotated[str, Field(pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?$")]
LabelValue = Annotated[str, Field(pattern=r"^([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?$", max_length=63)]


class Toleration(BaseModel):
    """A taint that the pool's nodes have and its pods bear."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = "NoSchedule"

    @model_validator(mode="after")
    def _a_value_for_equal_alone(self) -> Toleration:
        if (self.operator == "Equal") != (self.value is not None):
            raise ValueError("operator Equal needs a value, and Exists takes none")
        return self


class Pool(BaseModel):
    """A kind of node, and what a step takes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node_selector: Annotated[dict[LabelKey, LabelValue], Field(description="labels that the nodes have")] = {}
    tolerations: list[Toleration] = []
    gpus: Annotated[int, Field(ge=0, description="GPUs a step")] = 0
    gpu_resource: Annotated[str, Field(description="what the device plugin calls them")] = "nvidia.com/gpu"
    gpu_memory: Annotated[
        Bytes | None,
        Field(description="of one GPU, such as 16G: `lorry estimate` says what does not fit; None = unknown"),
    ] = None
    price_per_hour: Annotated[
        float | None, Field(ge=0, description="of what a step takes, in placement.currency; None = unknown")
    ] = None
    cpu: Annotated[Cores, Field(description="cores requested, such as 4 or 500m")] = "4"
    memory: Annotated[Bytes, Field(description="requested, and the limit, with its unit, such as 16Gi")] = "16Gi"
    shared_memory: Annotated[
        Bytes | None, Field(description="size of /dev/shm, such as 2Gi; None = the runtime's 64 MB")
    ] = None
    spot: Annotated[bool, Field(description="adds GKE's label and taint; elsewhere write your own")] = False
    timeout_minutes: Annotated[
        int, Field(gt=0, description="one attempt at most; no retry after this long from the first")
    ] = 1440
    max_retries: Annotated[
        int, Field(ge=0, description="of a step that failed; training goes on from its checkpoint")
    ] = 20


GPU_TAINT = Toleration(key="nvidia.com/gpu")
POOLS: dict[str, Pool] = {
    "small": Pool(cpu="500m", memory="4Gi", max_retries=3),
    "cpu": Pool(max_retries=3),
    "t4": Pool(
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"},
        tolerations=[GPU_TAINT],
        gpus=1,
        gpu_memory="16G",
        cpu="3",
        memory="12Gi",
        shared_memory="2Gi",
    ),
    "a100": Pool(
        node_selector={"cloud.google.com/gke-accelerator": "nvidia-tesla-a100"},
        tolerations=[GPU_TAINT],
        gpus=1,
        gpu_memory="40G",
        cpu="10",
        memory="64Gi",
        shared_memory="8Gi",
    ),
}


class Placement(BaseModel):
    """The recipe's ``placement`` section. What a pool here leaves out is taken from Lorry's of that name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: Annotated[str, Field(description="where training and evaluation run; all else runs on cpu or small")] = "t4"
    pools: Annotated[
        dict[Name, Pool], Field(description="small (split and publish), cpu, t4, a100, or names of your own")
    ] = POOLS
    currency: Annotated[
        str, Field(pattern=r"^[A-Z]{3}$", description="of the pools' price_per_hour, by its three letters")
    ] = "USD"
    checkpoints_claim: Annotated[
        Name, Field(description="PVC for checkpoints: ReadWriteOnce for a run at a time, ReadWriteMany for a sweep")
    ] = "lorry-checkpoints"
    hub_cache_claim: Annotated[
        Name, Field(description="PVC for what comes from a hub: ReadWriteOnce for a run at a time, else ReadWriteMany")
    ] = "lorry-hub-cache"
    hub_secret: Annotated[Name, Field(description="Secret with the key HF_TOKEN; may be missing")] = "lorry-hub"
    store_secret: Annotated[Name, Field(description=f"Secret with {', '.join(STORE_VARIABLES)}; may be missing")] = (
        "lorry-store"
    )
    oci_secret: Annotated[
        Name, Field(description="Secret with LORRY_OCI_USER and LORRY_OCI_PASSWORD, for publish.oci; may be missing")
    ] = "lorry-oci"
    image_pull_secret: Annotated[Name | None, Field(description="Secret for a private registry")] = None

    @field_validator("pools", mode="before")
    @classmethod
    def _over_the_defaults(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        defaults = {name: pool.model_dump() for name, pool in POOLS.items()}
        named = {
            name: {**defaults.get(name, {}), **pool} if isinstance(pool, Mapping) else pool
            for name, pool in given.items()
        }
        return {**defaults, **named}

    @model_validator(mode="after")
    def _a_known_pool(self) -> Placement:
        if self.pool not in self.pools:
            raise ValueError(f"pool {self.pool!r} is none of {', '.join(self.pools)}")
        return self

    def on(self, pool: str | None) -> Placement:
        """The same placement with training on another pool; None leaves it.

        Raises:
            RecipeError: there is no such pool.
        """
        if pool is None:
            return self
        if pool not in self.pools:
            raise RecipeError(
                f"--pool {pool}: none of {', '.join(self.pools)}; add it under placement.pools in the recipe"
            )
        return self.model_copy(update={"pool": pool})
