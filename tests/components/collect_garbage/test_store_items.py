"""A store's parts: what is listed, what is refused, and what a deletion leaves when something happens meanwhile."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from components.artifacts.contracts import MANIFEST_NAME, BaseModelRef
from components.collect_garbage.items import GONE, Item, Listing
from components.collect_garbage.places import delete_items, list_place
from components.collect_garbage.plan import Rules, decide, pins_of_current
from components.collect_garbage.store_items import delete_from_store, list_store
from components.errors import ModelError, StoreError
from components.fetch_model.fetch import fetch
from components.publish_model import publish as publish_module
from components.storage.published_models import CURRENT_KEY, current, key_of, published, published_manifest
from components.storage.run_notes import StepNote
from components.storage.store import Store
from tests.buckets import s3_server
from tests.components.publish_model.models import FILE, put, write_model

REVISION = "b" * 64
NOTE = StepNote(step="train_lora", state="finished").model_dump_json().encode()
RUN = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.fixture(params=["folder", "bucket"])
def address(request, tmp_path):
    if request.param == "folder":
        yield str(tmp_path / "store")
    else:
        with s3_server():
            yield "s3://lorry/store"


def publish(folder: Path, address: str, number: int, **changes: object) -> str:
    return put(write_model(folder / f"model-{number}", b"GGUF" + bytes([number]) * 999, **changes), address)


def the(listing: Listing, name: str) -> Item:
    return next(item for item in listing.items if item.name == name)


def test_a_store_is_listed_with_what_its_parts_need(tmp_path, address):
    base = BaseModelRef(address=f"{address}/base-models/{REVISION}", revision=REVISION, weight_bytes=1)
    old, new = publish(tmp_path, address, 1, base_model=base), publish(tmp_path, address, 2)
    store = Store(address)
    store.put_bytes(f"base-models/{REVISION}/config.json", b"{}")
    store.put_bytes(f"inputs/{REVISION}/chats.jsonl", b"row")
    store.put_bytes(f"runs/{RUN}.json", json.dumps({"model": {"sha256": old}}).encode())
    store.put_bytes(f"runs/{RUN}/steps/train_lora.json", NOTE)
    listing = list_place(address)
    assert (listing.kind, listing.current, listing.foreign, listing.warnings) == ("store", new, [], [])
    assert {(item.kind, item.name) for item in listing.items} == {
        ("model", old), ("model", new), ("base model", REVISION), ("input", REVISION), ("run", RUN),
    }  # fmt: skip
    assert the(listing, old).needs == [f"base model:{REVISION}", "checkpoints:key"]
    assert the(listing, RUN).needs == [f"model:{old}"]
    assert the(listing, old).size_bytes == 1003 + store.size_of(key_of(old, MANIFEST_NAME))


def test_what_is_not_lorrys_is_named_and_no_item(tmp_path, address):
    sha256 = publish(tmp_path, address, 1)
    for key in ("models/theirs/model.bin", "notes.txt", "runs/theirs/events", f"models/{'c' * 64}"):
        Store(address).put_bytes(key, b"theirs")
    listing = list_place(address)
    assert [item.name for item in listing.items] == [sha256]
    assert listing.foreign == sorted(
        [f"models/{'c' * 64}", "models/theirs/model.bin", "notes.txt", "runs/theirs/events"]
    )


def test_a_place_that_is_not_lorrys_is_refused_in_one_line(tmp_path, address):
    Store(address, create=True).put_bytes("models/theirs/model.bin", b"x")
    with pytest.raises(StoreError, match=r"is no store of Lorry's \(it holds models/\); nothing there is touched"):
        list_place(address)


@pytest.mark.parametrize("name", ["1", "2026", RUN, "0123456789abcdef"])
def test_the_runs_of_another_program_are_no_items_whatever_their_names(tmp_path, address, name):
    store = Store(address, create=True)
    theirs = [f"runs/{name}.json", f"runs/{name}/config.json", f"runs/{name}/steps/1.json", f"runs/{name}/weights.pt"]
    for key in theirs:
        store.put_bytes(key, b'{"model": "resnet", "step": 1}')
    with pytest.raises(StoreError, match=r"is no store of Lorry's \(it holds runs/\); nothing there is touched"):
        list_place(address)
    sha256 = publish(tmp_path, address, 1)
    listing = list_place(address)
    assert ([item.name for item in listing.items], listing.foreign) == ([sha256], theirs)


def test_a_run_goes_without_the_files_that_another_program_put_beside_its_own(address):
    store = Store(address, create=True)
    later = b'{"schema_version": 2, "step": "split_data", "state": "queued", "host": "x"}'
    for key, content in (("steps/split_data.json", later), ("sweep/report.html", b"h"), ("weights.pt", b"w")):
        store.put_bytes(f"runs/{RUN}/{key}", content)
    listing = list_place(address)
    assert ([item.name for item in listing.items], listing.foreign) == ([RUN], [f"runs/{RUN}/weights.pt"])
    assert delete_from_store(store, the(listing, RUN)) is None
    assert store.keys("runs") == [f"runs/{RUN}/weights.pt"]


def test_what_is_left_of_a_run_whose_deletion_broke_off_is_listed_again(address, monkeypatch):
    store = Store(address, create=True)
    for key, content in (("steps/train_lora.json", NOTE), ("sweep/report.html", b"h")):
        store.put_bytes(f"runs/{RUN}/{key}", content)
    item, delete, deleted = the(list_place(address), RUN), Store.delete, []

    def break_off(self: Store, key: str) -> None:
        if deleted:
            raise StoreError("gone")
        deleted.append(key)
        delete(self, key)

    monkeypatch.setattr(Store, "delete", break_off)
    with pytest.raises(StoreError, match="gone"):
        delete_from_store(store, item)
    monkeypatch.undo()
    assert store.keys("runs") == [f"runs/{RUN}/steps/train_lora.json"]
    assert the(list_place(address), RUN).kind == "run"


def test_a_bucket_that_does_not_exist_or_holds_nothing_is_one_line():
    with s3_server():
        with pytest.raises(StoreError, match="s3://missing: no such bucket"):
            list_place("s3://missing")
        with pytest.raises(StoreError, match="s3://lorry/nothing: holds nothing; correct the address"):
            list_place("s3://lorry/nothing")


def test_a_model_without_a_manifest_is_unfinished_and_one_that_cannot_be_read_is_held(tmp_path, address):
    half, damaged = publish(tmp_path, address, 1), publish(tmp_path, address, 2)
    publish(tmp_path, address, 3)
    Store(address).delete(key_of(half, MANIFEST_NAME))
    Store(address).put_bytes(key_of(damaged, MANIFEST_NAME), b"{")
    listing = list_place(address)
    assert the(listing, half).unfinished == "an upload without model.json"
    assert the(listing, damaged).held.startswith("its model.json cannot be used: ")


def test_what_a_killed_upload_left_in_a_folder_is_part_of_its_model(tmp_path):
    sha256 = publish(tmp_path, str(tmp_path / "store"), 1)
    (tmp_path / "store/models" / sha256 / f"{FILE}#1").write_bytes(b"part")
    (listed,) = list_place(str(tmp_path / "store")).items
    listed = listed.model_copy(update={"name": sha256})
    Store(str(tmp_path / "store")).delete(CURRENT_KEY)
    assert delete_from_store(Store(str(tmp_path / "store")), listed) is None
    assert not (tmp_path / "store/models" / sha256).exists()


def test_a_current_that_cannot_be_read_ends_the_listing(tmp_path, address):
    publish(tmp_path, address, 1)
    Store(address).put_bytes(CURRENT_KEY, b"{")
    with pytest.raises(ModelError, match=r"current\.json: cannot be read"):
        list_place(address)


def test_a_current_that_names_no_model_is_a_warning(tmp_path, address):
    sha256, _ = publish(tmp_path, address, 1), publish(tmp_path, address, 2)
    Store(address).put_bytes(CURRENT_KEY, json.dumps({"sha256": "d" * 64, "recipe": "r"}).encode())
    assert list_place(address).warnings[0].endswith(f"names model {'d' * 64}, which is not there; publish it again")
    assert sha256 in published(Store(address))


def test_a_deletion_takes_the_manifest_first(tmp_path, address, monkeypatch):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    deleted: list[str] = []
    delete = Store.delete
    monkeypatch.setattr(Store, "delete", lambda self, key: (deleted.append(key), delete(self, key)))
    outcomes = list(delete_items(address, [the(list_place(address), old)], print))
    assert [(one.name, one.kept_because) for one in outcomes] == [(old, None)]
    assert deleted[0] == key_of(old, MANIFEST_NAME)
    assert not [key for key in Store(address).keys("models") if old in key]


def test_a_deletion_that_breaks_off_leaves_no_model_and_is_listed_again(tmp_path, address, monkeypatch):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    item, delete = the(list_place(address), old), Store.delete

    def break_off(self: Store, key: str) -> None:
        if key.endswith(".gguf"):
            raise StoreError("gone")
        delete(self, key)

    monkeypatch.setattr(Store, "delete", break_off)
    with pytest.raises(StoreError, match="gone"):
        delete_from_store(Store(address), item)
    monkeypatch.undo()
    assert published_manifest(Store(address), old) is None
    assert the(list_place(address), old).unfinished


def test_a_model_that_became_current_or_was_written_since_stays(tmp_path, address):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    item = the(list_place(address), old)
    Store(address).put_bytes(CURRENT_KEY, json.dumps({"sha256": old, "recipe": "r"}).encode())
    assert delete_from_store(Store(address), item) == "it has become the current model"
    earlier = item.model_copy(update={"modified": item.modified - timedelta(seconds=9)})
    assert delete_from_store(Store(address), earlier) == "it was written to since it was listed"
    assert fetch(address, old, tmp_path / "fetched").sha256 == old


def test_a_model_that_becomes_current_while_its_manifest_goes_gets_it_back(tmp_path, address, monkeypatch):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    item, delete = the(list_place(address), old), Store.delete

    def move_current(self: Store, key: str) -> None:
        delete(self, key)
        if key.endswith(MANIFEST_NAME):
            self.put_bytes(CURRENT_KEY, json.dumps({"sha256": old, "recipe": "r"}).encode())

    monkeypatch.setattr(Store, "delete", move_current)
    assert delete_from_store(Store(address), item) == "it has become the current model"
    assert fetch(address, old, tmp_path / "fetched").sha256 == old


@pytest.mark.parametrize("is_sent_first", [False, True], ids=["after a file went", "as a file goes"])
def test_a_model_that_is_published_while_its_files_go_keeps_its_manifest(tmp_path, address, monkeypatch, is_sent_first):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    item, delete = the(list_place(address), old), Store.delete

    def publish_beside(self: Store, key: str) -> None:
        if key.endswith(MANIFEST_NAME):
            delete(self, key)
            return
        if not is_sent_first:
            delete(self, key)
        monkeypatch.undo()
        publish(tmp_path, address, 1)
        if is_sent_first:
            delete(self, key)

    monkeypatch.setattr(Store, "delete", publish_beside)
    reason = delete_from_store(Store(address), item)
    assert current(Store(address)).sha256 == old
    assert published_manifest(Store(address), old) is not None
    if is_sent_first:  # between gc's look and its deletion: the run saw a whole model
        assert reason is not None
        assert reason.startswith("it was published again while its files were deleted; unless a run is sending it now")
    else:
        assert reason == "it was published again meanwhile"
        assert fetch(address, old, tmp_path / "fetched").sha256 == old


def test_a_run_that_publishes_a_model_that_a_gc_deletes_sends_it_again(tmp_path, address, monkeypatch):
    old = publish(tmp_path, address, 1)
    publish(tmp_path, address, 2)
    item, put_bytes = the(list_place(address), old), Store.put_bytes

    def delete_before_current(self: Store, key: str, content: bytes) -> None:
        if key == CURRENT_KEY:
            assert delete_from_store(self, item) is None
        put_bytes(self, key, content)

    monkeypatch.setattr(publish_module.Store, "put_bytes", delete_before_current)
    publish(tmp_path, address, 1)
    monkeypatch.undo()
    assert current(Store(address)).sha256 == old
    assert fetch(address, old, tmp_path / "fetched").sha256 == old


def test_two_at_once_delete_each_part_once_and_fail_at_none(tmp_path, address):
    names = [publish(tmp_path, address, number) for number in range(3)]
    items = [the(list_place(address), name) for name in names[:2]]
    first, second = delete_items(address, items, print), delete_items(address, items, print)
    outcomes = [next(first), next(second), next(second), next(first)]
    assert [one.kept_because for one in outcomes] == [None, GONE, None, GONE]
    assert published(Store(address)) == [names[2]]


def test_random_stores_keep_every_pinned_model_loadable(tmp_path):
    for seed in range(8):
        chance = random.Random(seed)
        address = str(tmp_path / f"store-{seed}")
        names = [publish(tmp_path, address, 10 * seed + number) for number in range(chance.randint(1, 6))]
        half = chance.sample(names[:-1], k=min(len(names) - 1, chance.randint(0, 2)))
        for name in half:
            Store(address).delete(key_of(name, MANIFEST_NAME))
        pinned = [name for name in names if name not in half and chance.random() < 0.3]
        listing = list_store(Store(address), report=print)
        pins = {**{f"model:{name}": "pinned" for name in pinned}, **pins_of_current({address: listing.current})}
        now = datetime.now(UTC) + timedelta(days=chance.choice([0, 40]))
        plan = decide({address: listing.items}, Rules(chance.randint(0, 2), timedelta(days=30), now, pins))
        stays = [one.item.name for one in plan if not one.goes and one.item.name not in half]
        list(delete_items(address, [one.item for one in plan if one.goes], print))
        assert set(stays) >= {*pinned, names[-1]}
        assert sorted(published(Store(address))) == sorted(stays)
        for name in {*pinned, current(Store(address)).sha256}:
            assert fetch(address, name, tmp_path / "fetched" / f"{seed}-{name}").sha256 == name
