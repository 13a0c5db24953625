"""The images of steps and of the overlay: their names, and whether nodes can pull them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.cluster.doctor.pools import step_of
from pipelines.cluster.doctor.row import NOT_PROBED, Row
from pipelines.cluster.doctor.scheduling import Node
from pipelines.cluster.doctor.subject import Subject
from pipelines.cluster.overlay import UNPINNED, containers_of
from pipelines.config.pools import Pool
from pipelines.config.steps import RUN_STEPS
from pipelines.graph.images import image_of, reference

GROUP = "images"
PUSHING = "make images PUSH=1"


@dataclass(frozen=True)
class Used:
    """An image that a namespace's pods name, and the pool of the steps that run in it."""

    namespace: str
    image: str
    pool: Pool | None = None

    @property
    def probe(self) -> str:
        """The name of the probe that pulls it."""
        return f"image {self.image} in {self.namespace}"


def used(subject: Subject) -> list[Used]:
    """Every image, once for each namespace."""
    pools: dict[str, Pool] = {}
    for step in RUN_STEPS:
        pool = subject.placement.pool if step.pool == "gpu" else step.pool
        # The largest image is needed where it trains.
        pools.setdefault(image_of(step), subject.placement.pools[pool])
    found = [Used(subject.run_namespace, reference(name, subject.settings), pool) for name, pool in pools.items()]
    if subject.overlay is not None:
        found += [Used(subject.overlay.namespace, image) for image in subject.overlay.images()]
    return list({(one.namespace, one.image): one for one in reversed(found)}.values())[::-1]


def pulls(subject: Subject) -> Iterator[Row]:
    """Whether each image can be pulled."""
    for one in used(subject):
        yield _pull(subject, one)


def _pull(subject: Subject, one: Used) -> Row:
    name, _, _ = one.image.rpartition(":")
    check = f"{name.rpartition('/')[2]} in {one.namespace}"
    is_of_overlay = one.pool is None
    if one.image.startswith(UNPINNED):
        return Row(GROUP, check, "missing", "the overlay names no image yet", _pinning(subject))
    outcome = subject.outcomes.get(one.probe)
    if outcome is not None and outcome.succeeded:
        return Row(GROUP, check, "ok", f"{one.image}: a pod ran it")
    if outcome is not None and outcome.end not in ("unpulled", "failed"):
        return Row(GROUP, check, "warning", f"{one.image}: not probed: {outcome.reason}")
    if outcome is not None:
        is_ours = one.image in {reference(name, subject.settings) for name in ("model-server", "chat", "data")}
        fix = _pinning(subject) if is_of_overlay and not is_ours else _making(one.image)
        return Row(GROUP, check, "missing", f"{one.image}: {outcome.reason}", fix)
    if _is_on_a_node(subject, one.image):
        return Row(GROUP, check, "ok", f"{one.image}: a node has it; {NOT_PROBED}")
    local = " (localhost is the node itself: load it there)" if name.startswith("localhost/") else ""
    return Row(GROUP, check, "warning", f"{one.image}: on no node yet{local}; {NOT_PROBED}", _making(one.image))


def _is_on_a_node(subject: Subject, image: str) -> bool:
    # A node lists its fifty largest images at most.
    return any(
        image in (each.get("names") or []) for node in subject.state.nodes for each in node["status"].get("images", [])
    )


def _pinning(subject: Subject) -> str:
    assert subject.overlay is not None
    return f"lorry pin {subject.overlay.folder}"


def _making(image: str) -> str:
    if image.startswith("localhost/"):
        each = "for image in $(.venv/bin/python -m images.build --list)"
        return f"make images && {each}; do kind load docker-image $image; done"
    return PUSHING


def processors(subject: Subject) -> Iterator[Row]:
    """Whether the images are for the nodes' processors, and which of llama.cpp's kernels those can run."""
    wanted = subject.settings.platform.rpartition("/")[2]
    for node in cpu_nodes(subject):
        label = node.labels.get("kubernetes.io/arch", wanted)
        check = f"processor of {node.name}"
        if label != wanted:
            yield Row(
                GROUP, check, "missing",
                f"{label}, and the images are for {wanted}; give the pool the selector kubernetes.io/arch: {wanted}, "
                "or build for the nodes",
                f"LORRY_PLATFORM=linux/{label} {PUSHING}",
            )  # fmt: skip
            continue
        outcome = subject.outcomes.get(f"processor of {node.name}")
        if outcome is None:
            known = sorted(name.rpartition(".")[2] for name in node.labels if "cpu-cpuid.AVX" in name)
            features = " ".join([label, *known])
            yield Row(GROUP, check, "ok" if known else "warning", f"{features}; {NOT_PROBED}")
        elif not outcome.succeeded:
            yield Row(GROUP, check, "warning", f"not probed: {outcome.reason}")
        else:
            flags = outcome.log.split()
            slow = "" if label != "amd64" or "avx2" in flags else ": without AVX2 a server is several times slower"
            yield Row(GROUP, check, "warning" if slow else "ok", f"{label} {' '.join(flags)}{slow}")


def cpu_nodes(subject: Subject) -> list[Node]:
    """The nodes that steps on the pool ``cpu`` and the servers can run on; the first eight of them."""
    step = step_of("cpu", subject.placement.pools["cpu"])
    return [one for one in subject.state.ready_nodes
            if one.has_labels(step.selector) and not one.refusing_taints(step.tolerations)][:8]  # fmt: skip


def pull_secrets(subject: Subject) -> list[str]:
    """The Secrets with which the overlay's pods pull."""
    if subject.overlay is None:
        return []
    pods = [pod for _, pod in subject.overlay.pod_templates() if containers_of(pod)]
    return list(dict.fromkeys(one["name"] for pod in pods for one in pod.get("imagePullSecrets", [])))
