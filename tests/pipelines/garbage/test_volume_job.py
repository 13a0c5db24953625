"""A volume through its Job: the real program on a folder, behind a ``kubectl`` that stands in for the cluster."""

from __future__ import annotations

import kubernetes_validate
import pytest

from components.collect_garbage.places import list_place
from components.errors import BusyError, ClusterError, StoreError
from pipelines.cluster.kubectl import Kubectl
from pipelines.garbage import volume_job
from pipelines.garbage.places import VolumePlace, batch_argument, batches
from pipelines.garbage.volume_job import VolumeJob
from tests.components.collect_garbage.test_checkpoint_items import KEYS, make
from tests.manifests.restricted import violations

IMAGE = "registry/lorry/data:0123456789abcdef"


def place(claim: str = "checkpoints", folder: str = "", start_seconds: float = 60) -> VolumePlace:
    return VolumePlace(VolumeJob(Kubectl("dev", "kubeflow"), claim, folder, IMAGE, 0.0, start_seconds))


def test_a_volume_is_listed_and_cleaned_and_its_jobs_are_removed(cluster, volume):
    make(volume)
    make(volume, KEYS[1])
    listing = place().list(print)
    assert [item.name for item in listing.items] == list(KEYS)
    (outcome,) = place().delete(listing.items[:1], print)
    assert (outcome.name, outcome.kept_because, outcome.size_bytes) == (KEYS[0], None, 100)
    assert [path.name for path in volume.iterdir()] == [KEYS[1]]
    assert cluster.state["jobs"] == {}


def test_a_folder_of_a_volume_is_a_place_too(cluster, volume):
    (volume / "old").mkdir()
    make(volume / "old")
    assert place(folder="old").address == "pvc://checkpoints/old"
    assert len(place(folder="old").list(print).items) == 1


def test_a_second_gc_of_a_volume_says_who_is_at_work_there(cluster, volume):
    cluster.answer(jobs={"lorry-gc-checkpoints": {}})
    with pytest.raises(BusyError, match=r"another lorry gc is at work there .*kubectl --context dev .*delete job lor"):
        place().list(print)
    assert cluster.state["jobs"] == {"lorry-gc-checkpoints": {}}


def test_a_claim_that_is_not_there_is_one_line(cluster):
    told = "^pvc://missing: the namespace kubeflow has no such claim; see kubectl .* get persistentvolumeclaims, or"
    with pytest.raises(ClusterError, match=told):
        place("missing").list(print)


def test_a_volume_that_is_not_lorrys_is_refused_under_its_own_address(cluster, volume):
    (volume / "theirs").mkdir()
    with pytest.raises(StoreError, match=r"^pvc://checkpoints: is no checkpoint root of Lorry's \(it holds theirs\)"):
        place().list(print)
    assert cluster.state["jobs"] == {}


def test_a_pod_that_does_not_start_ends_it_with_the_reason_and_leaves_no_job(cluster, volume):
    make(volume)
    waiting = {"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}
    status = {"phase": "Pending", "containerStatuses": [{"image": IMAGE, "state": waiting}]}
    cluster.answer(pending=[{"status": status}])
    lines: list[str] = []
    with pytest.raises(ClusterError, match=r"did not start in 0 s: its image .* cannot be pulled .*; nothing was"):
        place(start_seconds=0.0).list(lines.append)
    assert lines[-1].startswith(f"pvc://checkpoints: its image {IMAGE} cannot be pulled (not present)")
    assert cluster.state["jobs"] == {}


def test_a_pod_that_the_cluster_refuses_ends_it_with_the_reason(cluster, volume):
    make(volume)
    job = {"metadata": {"uid": "5-6"}, "status": {}}
    full = "exceeded quota: pods, requested: pods=1, used: pods=1, limited: pods=1"
    event = {"message": f'Error creating: pods "lorry-gc-checkpoints-x7k2p" is forbidden: {full}'}
    cluster.answer(
        answers={
            **cluster.state["answers"],
            "get job lorry-gc-checkpoints": job,
            "get events": {"items": [event]},
        }
    )
    message = f"the pod of job lorry-gc-checkpoints did not start in 0 s: the cluster refuses its pod: {full}; nothing"
    with pytest.raises(ClusterError, match=message):
        place(start_seconds=0.0).list(print)
    selector = "--field-selector=involvedObject.uid=5-6,reason=FailedCreate"
    assert any(selector in asked for asked in cluster.state["asked"])
    cluster.answers("get events", 'Error from server (Forbidden): events is forbidden: User "u" cannot list resource '
                    '"events" in API group "" in the namespace "kubeflow"')  # fmt: skip
    with pytest.raises(ClusterError, match="did not start in 0 s: its pod is not there yet; nothing was deleted"):
        place(start_seconds=0.0).list(print)


def test_a_refused_pod_is_not_waited_for_as_long_as_one_that_is_scheduled(cluster, monkeypatch):
    cluster.answers("get job lorry-gc-checkpoints", {"status": {}})
    monkeypatch.setattr(VolumeJob, "_waiting", lambda *_: f"{volume_job.REFUSED}: exceeded quota")
    monkeypatch.setattr(volume_job, "SECONDS_TO_PULL", 0.0)
    with pytest.raises(ClusterError, match="did not start in 0 s: the cluster refuses its pod: exceeded quota"):
        place(start_seconds=300.0).list(print)


def test_a_pod_that_gives_no_listing_says_that_its_image_is_of_another_version(cluster, volume, monkeypatch):
    make(volume)
    monkeypatch.setattr(VolumeJob, "run", lambda *_: iter(["{}"]))
    with pytest.raises(ClusterError, match="gave no listing that this version of Lorry reads; build the images"):
        place().list(print)


def test_a_program_that_fails_without_a_word_is_an_error(cluster, volume, monkeypatch):
    monkeypatch.setattr(VolumeJob, "_wait", lambda *_: False)
    make(volume)
    with pytest.raises(StoreError, match="pvc://checkpoints: its pod left no log"):
        place().list(print)


@pytest.mark.parametrize("arguments", [[], ["--delete", "[]"]])
def test_the_job_is_valid_and_passes_the_standard_restricted(arguments):
    manifest = place(folder="lorry").job.manifest(arguments)
    kubernetes_validate.validate(manifest, "1.36", strict=True)
    pod = manifest["spec"]["template"]["spec"]
    assert list(violations(pod)) == []
    (container,) = pod["containers"]
    assert container["command"][2:] == ["components.collect_garbage", "/volumes/checkpoints/lorry", *arguments]
    assert container["volumeMounts"][0]["readOnly"] is (not arguments)


def test_the_commands_are_those_that_a_person_types():
    create, wait, logs, delete = place().job.commands([])
    assert create.startswith("kubectl --context dev --namespace kubeflow create -f - <<'END'\n{")
    assert create.endswith("\n}\nEND")
    assert "--for=condition=complete job/lorry-gc-checkpoints" in wait
    assert logs.endswith("logs job/lorry-gc-checkpoints --tail=-1")
    assert delete.endswith("delete job lorry-gc-checkpoints")


def test_the_name_of_a_long_claims_job_is_one_that_kubernetes_takes():
    assert place("c" * 200).job.name == "lorry-gc-" + "c" * 54


def test_many_items_are_deleted_in_batches_that_an_argument_holds(volume):
    make(volume)
    (item,) = list_place(str(volume)).items
    items = [item.model_copy(update={"name": f"{number:016x}"}) for number in range(2000)]
    found = list(batches(items))
    assert [one for batch in found for one in batch] == items
    assert len(found) > 1
    assert max(len(batch_argument(batch)) for batch in found) <= 100_000
