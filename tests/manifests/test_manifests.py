"""The manifests: they render, are valid for old and new clusters, and their pods are locked down."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from components.model_server.draining import SECONDS_TO_HAND_OVER
from tests.conftest import ROOT
from tests.manifests.rendering import render
from tests.manifests.restricted import violations

MANIFESTS = ROOT / "manifests"
# The oldest and the newest minor version that Lorry supports.
VERSIONS = ("1.31", "1.36")
# Kinds that come with other projects' operators; their schemas are not Kubernetes'.
FOREIGN = {"HTTPRoute", "ServiceMonitor"}
PINNED = {*MANIFESTS.glob("overlays/*/pinned")}
OVERLAYS = sorted({path.parent for path in MANIFESTS.glob("overlays/**/kustomization.yaml")} - PINNED)
COMPONENTS = sorted(path.parent for path in MANIFESTS.glob("components/*/kustomization.yaml"))

# What the local overlay has already, what is a kustomization of its own, and what belongs into another namespace.
APART = {"one-machine", "second-model", "kubeflow-store-access", "store-volume", "argo-retries"}

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The local overlay with every optional component, and a second model."""
    folder = tmp_path_factory.mktemp("manifests")
    shutil.copytree(MANIFESTS, folder, dirs_exist_ok=True)
    overlay = folder / "overlays" / "everything"
    overlay.mkdir()
    resources = ["../local", "../../components/second-model"]
    components = [f"../../components/{path.name}" for path in COMPONENTS if path.name not in APART]
    lines = ["namespace: lorry", "resources:", *(f"  - {name}" for name in resources), "components:"]
    (overlay / "kustomization.yaml").write_text("\n".join([*lines, *(f"  - {name}" for name in components)]) + "\n")
    return render(overlay)


def names(path: Path) -> str:
    return str(path.relative_to(MANIFESTS))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS, ids=names)
def test_every_overlay_is_valid_strictly(overlay, version):
    objects = render(overlay)
    assert objects
    for found in objects:
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_component_is_valid_strictly(everything, version):
    own = [found for found in everything if found["kind"] not in FOREIGN]
    assert {found["kind"] for found in everything} >= {"Ingress", "HorizontalPodAutoscaler", "Role", "HTTPRoute"}
    for found in own:
        kubernetes_validate.validate(found, version, strict=True)


def test_a_misspelt_field_is_not_valid(everything):
    (deployment, *_) = of_kind(everything, "Deployment")
    wrong = copy.deepcopy(deployment)
    wrong["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    return [found for found in objects if found["kind"] == kind]


def pods(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """The spec of every pod, by the name of what makes it."""
    for found in objects:
        if found["kind"] == "Pod":
            yield found["metadata"]["name"], found["spec"]
        elif "template" in found.get("spec", {}):
            yield found["metadata"]["name"], found["spec"]["template"]["spec"]


def all_pods(everything: list[Manifest]) -> list[tuple[str, Manifest]]:
    found = [*pods(everything), *(pod for overlay in OVERLAYS for pod in pods(render(overlay)))]
    assert {name for name, _ in found} == {
        "model-server", "model-server-second", "chat", "lorry-prepare-volumes", "store-shell",
    }  # fmt: skip
    return found


def test_every_pod_passes_restricted_pod_security(everything):
    for name, pod in all_pods(everything):
        assert list(violations(pod)) == [], name


def change(path: str, value: Any) -> Callable[[Manifest], None]:
    """Set the value at a dotted path of a pod's spec."""

    def apply(pod: Manifest) -> None:
        *folders, last = path.split(".")
        node: Any = pod
        for part in folders:
            node = node[int(part)] if part.isdigit() else node.setdefault(part, {})
        node[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("hostNetwork", True, "hostNetwork shares"),
        ("securityContext.runAsNonRoot", False, "runAsNonRoot is not true"),
        ("securityContext.runAsUser", 0, "runAsUser 0"),
        ("securityContext.seccompProfile", {"type": "Unconfined"}, "no seccomp profile"),
        ("securityContext.sysctls", [{"name": "kernel.msgmax", "value": "1"}], "unsafe sysctl"),
        ("securityContext.seLinuxOptions", {"type": "spc_t"}, "custom SELinux"),
        ("securityContext.appArmorProfile", {"type": "Unconfined"}, "AppArmor is off"),
        ("volumes", [{"name": "node", "hostPath": {"path": "/"}}], "of type hostPath"),
        ("containers.0.securityContext.privileged", True, "privileged"),
        ("containers.0.securityContext.allowPrivilegeEscalation", True, "allowPrivilegeEscalation"),
        ("containers.0.securityContext.capabilities", {}, "ALL is not dropped"),
        ("initContainers.0.securityContext.capabilities.add", ["SYS_ADMIN"], "capabilities are added"),
        ("containers.0.securityContext.procMount", "Unmasked", "procMount"),
        ("containers.0.ports", [{"containerPort": 1, "hostPort": 1}], "a port of the host"),
        ("containers.0.livenessProbe.httpGet.host", "elsewhere", "asks another host"),
    ],
)
def test_the_walk_finds_what_the_profile_forbids(everything, path, value, problem):
    (pod,) = [copy.deepcopy(spec) for name, spec in pods(everything) if name == "model-server"]
    change(path, value)(pod)
    assert any(problem in found for found in violations(pod))


def test_serving_pods_have_a_read_only_root_and_no_token(everything):
    for name, pod in all_pods(everything):
        assert pod["automountServiceAccountToken"] is False, name
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, name


def test_serving_pods_have_the_cores_that_their_threads_count_on(everything):
    for name, pod in pods(everything):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            resources = container["resources"]
            assert resources["requests"] == resources["limits"], name


def test_every_deployment_says_how_it_rolls_out_and_is_probed(everything):
    for deployment in of_kind(everything, "Deployment"):
        strategy = deployment["spec"]["strategy"]
        if any("persistentVolumeClaim" in volume for volume in deployment["spec"]["template"]["spec"]["volumes"]):
            assert strategy == {"type": "Recreate"}  # two pods would write the same file
        else:
            rolling = strategy["rollingUpdate"]
            assert (rolling["maxSurge"], rolling["maxUnavailable"]) == (1, 0)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)
        assert (
            container["lifecycle"]["preStop"]["sleep"]["seconds"]
            < (deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"])
        )


def test_a_model_server_has_time_to_drain_before_it_is_killed(everything):
    settings = [one["data"] for one in of_kind(everything, "ConfigMap") if "LORRY_DRAIN_SECONDS" in one.get("data", {})]
    servers = [one for one in of_kind(everything, "Deployment") if "model-server" in one["metadata"]["name"]]
    assert settings
    for server in servers:
        spec = server["spec"]["template"]["spec"]
        before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
        drain = max(float(data["LORRY_DRAIN_SECONDS"]) for data in settings)
        assert before + drain + SECONDS_TO_HAND_OVER < spec["terminationGracePeriodSeconds"]


def test_selectors_of_two_servers_do_not_meet(everything):
    def selected(kind: str, *path: str) -> list[str]:
        found = []
        for one in of_kind(everything, kind):
            node: Any = one["spec"]
            for part in path:
                node = node[part]
            found.append(json.dumps(node, sort_keys=True))
        return found

    for kind, path in (
        ("Deployment", ("selector",)),
        ("Service", ("selector",)),
        ("PodDisruptionBudget", ("selector",)),
    ):
        chosen = selected(kind, *path)
        assert len(chosen) == len(set(chosen)) == 3, kind
    templates = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/instance"]
        for one in of_kind(everything, "Deployment")
    }
    assert templates == {name: name for name in ("model-server", "model-server-second", "chat")}


def test_settings_have_hashed_names_so_that_a_change_starts_new_pods(everything):
    for config in of_kind(everything, "ConfigMap"):
        name, _, digest = config["metadata"]["name"].rpartition("-")
        assert name in ("model-server-settings", "chat-settings", "model-server-settings-second", "lorry-store")
        assert len(digest) == 10
    (server,) = [pod for name, pod in pods(everything) if name == "model-server"]
    assert any(
        source.get("configMapRef", {}).get("name", "").startswith("model-server-settings-")
        for source in server["containers"][0]["envFrom"]
    )


def test_network_policies_select_only_lorrys_pods_and_let_the_page_reach_the_server(everything):
    policies = {found["metadata"]["name"]: found["spec"] for found in of_kind(everything, "NetworkPolicy")}
    for name, policy in policies.items():
        assert policy["podSelector"]["matchLabels"], f"{name} would select every pod of the namespace"
    (ingress,) = policies["model-server"]["ingress"]
    (chat,) = [one["spec"]["template"]["metadata"]["labels"] for one in of_kind(everything, "Deployment")
               if one["metadata"]["name"] == "chat"]  # fmt: skip
    assert ingress["from"] == [{"podSelector": {"matchLabels": {"lorry/client": "true"}}}]
    assert chat["lorry/client"] == "true"
    out = [peer for rule in policies["chat"]["egress"] for peer in rule["to"] if "namespaceSelector" not in peer]
    out = [peer for peer in out if "ipBlock" not in peer]
    assert out == [{"podSelector": {"matchLabels": {
        "app.kubernetes.io/part-of": "lorry", "app.kubernetes.io/name": "model-server",
    }}}]  # fmt: skip


def test_rights_are_limited_to_named_objects(everything):
    (deployer,) = of_kind(everything, "Role")
    named = [rule["resourceNames"] for rule in deployer["rules"] if "resourceNames" in rule]
    assert named == [["model-server", "chat"], ["model-server"]]
    for role in of_kind(everything, "Role"):
        for rule in role["rules"]:
            assert rule.get("resourceNames") or not {"patch", "update", "create", "delete"} & set(rule["verbs"])
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def test_an_autoscaled_server_has_no_number_of_replicas_of_its_own(everything, tmp_path):
    shutil.copytree(MANIFESTS, tmp_path, dirs_exist_ok=True)
    overlay = tmp_path / "overlays" / "local"
    kustomization = overlay / "kustomization.yaml"
    kustomization.write_text(
        kustomization.read_text().replace("  - pinned", "  - pinned\n  - ../../components/autoscaling")
    )
    for objects in (everything, render(overlay)):
        (server,) = [one for one in of_kind(objects, "Deployment") if one["metadata"]["name"] == "model-server"]
        assert "replicas" not in server["spec"]
    (autoscaler,) = of_kind(everything, "HorizontalPodAutoscaler")
    assert autoscaler["spec"]["scaleTargetRef"]["name"] == "model-server"


def test_an_image_that_is_not_pinned_has_a_tag_that_says_what_to_do():
    images = {container["image"] for _, pod in pods(render(MANIFESTS / "overlays" / "local"))
              for container in [*pod.get("initContainers", []), *pod["containers"]]}  # fmt: skip
    assert images == {f"unpinned.invalid/lorry/{name}:run-lorry-pin-first" for name in ("model-server", "chat")}


def test_kubeflows_store_lets_in_lorrys_servers_and_whom_it_let_in_before():
    (policy,) = render(MANIFESTS / "components" / "kubeflow-store-access")
    kubernetes_validate.validate(policy, VERSIONS[-1], strict=True)
    (rule,) = policy["spec"]["ingress"]
    assert policy["spec"]["podSelector"]["matchLabels"] == {"app": "seaweedfs"}
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/part-of"] == "lorry"


def test_no_base_names_a_namespace_or_a_tag():
    for base in MANIFESTS.glob("base/*"):
        for found in render(base):
            assert "namespace" not in found["metadata"]
        for _, pod in pods(render(base)):
            assert all(":" not in container["image"] for container in pod["containers"])
