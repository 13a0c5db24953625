"""The manifests: they render, are valid for old and new clusters, and their pods are locked down."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from components.model_server.engine.batching import EngineSettings
from components.model_server.http.server import STREAM_FLUSH_SECONDS
from tests.conftest import ROOT
from tests.manifests.rendering import render
from tests.manifests.restricted import violations

MANIFESTS = ROOT / "manifests"
# The oldest and the newest minor version that Lorry supports.
VERSIONS = ("1.31", "1.36")
# Kinds that come with other projects' operators; their schemas are not Kubernetes'.
FOREIGN = {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}
PINNED = {*MANIFESTS.glob("overlays/*/pinned")}
OVERLAYS = sorted({path.parent for path in MANIFESTS.glob("overlays/**/kustomization.yaml")} - PINNED)
COMPONENTS = sorted(path.parent for path in MANIFESTS.glob("components/*/kustomization.yaml"))

# What the local overlay has already, what is a kustomization of its own, and what belongs into another namespace.
APART = {
    "one-machine",
    "second-model",
    "kubeflow-store-access",
    "store-volume",
    "argo-retries",
    "openshift",
    "model-image-volume",
}
SECOND = "../../components/second-model"

Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> list[Manifest]:
    """The local overlay with every optional component, and a second model."""
    components = [path.name for path in COMPONENTS if path.name not in APART]
    return with_lines(tmp_path_factory.mktemp("manifests"), "local", components, [SECOND])


def with_lines(
    folder: Path, overlay: str, components: Sequence[str] = (), resources: Sequence[str] = (), more: str = ""
) -> list[Manifest]:
    """The objects of an overlay to which a user has added lines, below those that stand there."""
    shutil.copytree(MANIFESTS, folder, dirs_exist_ok=True)
    path = folder / "overlays" / overlay / "kustomization.yaml"
    document = YAML(typ="safe", pure=True).load(path.read_text())
    document["components"] += [f"../../components/{name}" for name in components]
    document["resources"] += resources
    for key, lines in (YAML(typ="safe", pure=True).load(more) or {}).items():
        document[key] = [*document.get(key, []), *lines]
    with path.open("w") as file:
        YAML(typ="safe", pure=True).dump(document, file)
    return render(path.parent)


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


def resources_of(objects: list[Manifest]) -> dict[str, dict[str, dict[str, str]]]:
    """Requests and limits of each container, by its pod's name and its own."""
    return {
        f"{name}/{container['name']}": container["resources"]
        for name, pod in pods(objects)
        for container in [*pod.get("initContainers", []), *pod["containers"]]
    }


def test_a_server_has_the_cores_that_its_threads_count_on_and_what_only_waits_asks_for_a_tenth():
    found = resources_of(render(MANIFESTS / "overlays" / "gke"))
    assert found["model-server/model-server"]["requests"] == found["model-server/model-server"]["limits"]
    assert {name: one["requests"]["cpu"] for name, one in found.items()} == {
        "model-server/fetch-model": "100m", "model-server/model-server": "2", "chat/chat": "100m",
    }  # fmt: skip


def test_no_pod_may_take_more_memory_than_it_asks_for(everything):
    for objects in (everything, render(MANIFESTS / "overlays" / "gke")):
        for name, resources in resources_of(objects).items():
            assert resources["requests"]["memory"] == resources["limits"]["memory"], name


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
        assert before + drain + STREAM_FLUSH_SECONDS < spec["terminationGracePeriodSeconds"]


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
    settings = [
        one for one in of_kind(everything, "ConfigMap") if "grafana_dashboard" not in one["metadata"].get("labels", {})
    ]
    for config in settings:
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
    assert named == [["model-server", "model-server-second", "chat"], ["model-server", "model-server-second"]]
    for role in of_kind(everything, "Role"):
        for rule in role["rules"]:
            assert rule.get("resourceNames") or not {"patch", "update", "create", "delete"} & set(rule["verbs"])
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


def scaled(objects: list[Manifest]) -> dict[str, tuple[int, int]]:
    """The autoscaled Deployments: how many servers an apply starts, and how few the autoscaler leaves."""
    replicas = {one["metadata"]["name"]: one["spec"]["replicas"] for one in of_kind(objects, "Deployment")}
    found = {}
    for autoscaler in of_kind(objects, "HorizontalPodAutoscaler"):
        name = autoscaler["spec"]["scaleTargetRef"]["name"]
        assert autoscaler["metadata"]["name"] == name
        found[name] = (replicas[name], autoscaler["spec"]["minReplicas"])
    return found


def test_without_the_component_nothing_is_autoscaled(tmp_path):
    assert scaled(with_lines(tmp_path, "gke", resources=[SECOND])) == {}


def test_each_model_has_an_autoscaler_and_a_number_of_its_own(everything, tmp_path):
    both = with_lines(tmp_path, "gke", ["autoscaling"], [SECOND])
    assert scaled(both) == {"model-server": (2, 2), "model-server-second": (2, 2)}
    assert set(scaled(everything)) == {"model-server", "model-server-second"}


@pytest.mark.parametrize("order", [["autoscaling", "one-machine"], ["one-machine", "autoscaling"]], ids=" ".join)
def test_the_order_of_components_does_not_matter(order, tmp_path):
    assert scaled(with_lines(tmp_path, "gke", order, [SECOND])) == {
        "model-server": (1, 1),
        "model-server-second": (1, 1),
    }


@pytest.mark.parametrize("overlay", ["gke", "local", "openshift", "volume"])
def test_turning_autoscaling_on_changes_no_deployment(overlay, tmp_path):
    before = with_lines(tmp_path / "off", overlay, [], [SECOND])
    after = with_lines(tmp_path / "on", overlay, ["autoscaling"], [SECOND])
    autoscalers = of_kind(after, "HorizontalPodAutoscaler")
    assert len(autoscalers) == 2
    assert [one for one in after if one not in autoscalers] == before


def test_no_pod_gets_a_sidecar_that_would_outlive_its_job_or_come_after_its_init_container(everything):
    folders = [*OVERLAYS, MANIFESTS / "components" / "argo-retries"]
    templates = [
        found if found["kind"] == "Pod" else found["spec"]["template"]
        for found in [*everything, *(one for folder in folders for one in render(folder))]
        if found["kind"] in ("Pod", "Job", "Deployment")
    ]
    assert len(templates) > 10
    for template in templates:
        assert template["metadata"]["labels"]["sidecar.istio.io/inject"] == "false"


def test_a_service_monitor_has_the_label_that_prometheus_selects_by(everything):
    (monitor,) = of_kind(everything, "ServiceMonitor")
    assert monitor["metadata"]["labels"] == {"release": "kube-prometheus-stack"}


def test_no_proxy_ends_an_answer_that_takes_its_whole_time(everything):
    (route,) = of_kind(everything, "HTTPRoute")
    assert [rule["timeouts"] for rule in route["spec"]["rules"]] == [{"request": "0s"}]  # 0: none
    (ingress,) = of_kind(everything, "Ingress")
    annotations = ingress["metadata"]["annotations"]
    prefix = "nginx.ingress.kubernetes.io"
    # of silence, not of the whole answer
    assert float(annotations[f"{prefix}/proxy-read-timeout"]) >= EngineSettings.max_seconds
    assert annotations[f"{prefix}/proxy-buffering"] == "off"


def on_openshift(tmp_path: Path) -> list[Manifest]:
    objects = with_lines(tmp_path / "volume", "volume", ["openshift"], [SECOND])
    objects += with_lines(tmp_path / "own", "openshift", ["autoscaling", "service-monitor"], [SECOND])
    shell = tmp_path / "own" / "overlays" / "volume" / "store-shell"
    with (shell / "kustomization.yaml").open("a") as file:
        file.write("  - ../../../components/openshift\n")
    pipelines = tmp_path / "own" / "overlays" / "openshift" / "pipelines"
    path = pipelines / "kustomization.yaml"
    path.write_text(path.read_text().replace("components:", "  - ../../../components/argo-retries\ncomponents:", 1))
    return [*objects, *render(shell), *render(pipelines)]


def test_on_openshift_users_and_groups_are_the_clusters_and_pods_are_locked_down_as_elsewhere(tmp_path):
    found = list(pods(on_openshift(tmp_path)))
    assert {name for name, _ in found} == {
        "model-server", "model-server-second", "chat", "lorry-prepare-volumes", "lorry-argo-retries", "store-shell",
    }  # fmt: skip
    for name, pod in found:
        containers = [*pod.get("initContainers", []), *pod["containers"]]
        contexts = [pod["securityContext"], *(container["securityContext"] for container in containers)]
        for context in contexts:
            assert not {"runAsUser", "runAsGroup", "fsGroup"} & set(context), name
        assert list(violations(pod)) == [], name
        assert all(context["readOnlyRootFilesystem"] for context in contexts[1:]), name


def test_on_openshift_names_are_asked_where_it_answers_them(tmp_path):
    policies = [one for one in of_kind(on_openshift(tmp_path), "NetworkPolicy") if "egress" in one["spec"]]
    assert len(policies) == 6
    for policy in policies:
        (names, *others) = policy["spec"]["egress"]
        (peer,) = names["to"]
        assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "openshift-dns"}
        assert [port["port"] for port in names["ports"]] == [5353, 5353]
        assert all(port["port"] != 53 for rule in others for port in rule["ports"])


def test_a_server_whose_store_is_a_volume_reaches_names_alone():
    policies = {one["metadata"]["name"]: one["spec"] for one in of_kind(render(MANIFESTS / "overlays" / "volume"),
                "NetworkPolicy")}  # fmt: skip
    (names,) = policies["model-server"]["egress"]
    assert {port["port"] for port in names["ports"]} == {53}


def in_docs() -> list[str]:
    """The pieces of a kustomization.yaml that docs/cluster.md says to add to an overlay."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL | re.MULTILINE)
    return [block for block in blocks if re.match(r"(patches|configMapGenerator|resources):", block)]


def test_every_piece_of_the_docs_changes_what_an_overlay_applies_and_is_valid(tmp_path):
    pieces = in_docs()
    assert len(pieces) >= 4
    optional = ["http-route", "ingress", "service-monitor", "autoscaling"]
    plain = with_lines(tmp_path / "plain", "gke", optional)
    volumes = render(MANIFESTS / "overlays" / "gke" / "pipelines")
    for number, piece in enumerate(pieces):
        folder = tmp_path / str(number)
        if "PersistentVolumeClaim" in piece:
            shutil.copytree(MANIFESTS, folder)
            with (folder / "overlays" / "gke" / "pipelines" / "kustomization.yaml").open("a") as file:
                file.write(piece)
            changed, before = render(folder / "overlays" / "gke" / "pipelines"), volumes
        else:
            changed, before = with_lines(folder, "gke", optional, more=piece), plain
        assert changed != before, piece
        for found in changed:
            if found["kind"] not in FOREIGN:
                kubernetes_validate.validate(found, VERSIONS[-1], strict=True)


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
