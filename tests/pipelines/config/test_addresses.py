"""What an address is, by its form."""

from __future__ import annotations

import os

import pytest

from pipelines.config.addresses import (
    SHIPPED_BASES,
    absolute,
    claim_of,
    claims_in,
    hub_file,
    is_hub_id,
    is_local,
    is_made,
    pod_path,
)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("rows.jsonl", "{folder}/rows.jsonl"),
        ("../rows.jsonl", "{parent}/rows.jsonl"),
        ("/data/rows.jsonl", "/data/rows.jsonl"),
        ("owner/name", "owner/name"),
        ("owner/name/model.gguf", "owner/name/model.gguf"),
        ("hf://owner/name", "owner/name"),
        ("hf://datasets/owner/name", "owner/name"),
        ("s3://bucket/rows.jsonl", "s3://bucket/rows.jsonl"),
        ("pvc://claim/rows.jsonl", "pvc://claim/rows.jsonl"),
    ],
)
def test_relative_paths_begin_at_the_documents_folder_and_others_stay(tmp_path, address, expected):
    folder = tmp_path / "recipes"
    folder.mkdir()
    assert absolute(address, folder) == expected.format(folder=folder, parent=tmp_path)


def test_a_folder_that_is_there_is_no_hub_id(tmp_path):
    os.makedirs(tmp_path / "owner" / "name")
    assert absolute("owner/name", tmp_path) == str(tmp_path / "owner" / "name")
    assert absolute("hf://owner/name", tmp_path) == "owner/name"


@pytest.mark.parametrize("address", ["owner/name", "Owner-1/na.me_2"])
def test_owner_and_name_are_a_hub_id(address):
    assert is_hub_id(address)
    assert not is_local(address)


@pytest.mark.parametrize(
    "address", ["name", "a/b/c", "data/rows.jsonl", "data/rows.parquet", "/a/b", "./a", "a/prompts.yaml"]
)
def test_other_names_are_none(address):
    assert not is_hub_id(address)
    assert is_local(address)


def test_a_gguf_file_of_the_hub_is_split_into_repository_and_path():
    assert hub_file("owner/name/sub/model.gguf") == ("owner/name", "sub/model.gguf")
    assert hub_file("model.gguf") is None
    assert hub_file("owner/name") is None


def test_bases_that_become_a_folder_first():
    assert all(is_made(address) for address in (*SHIPPED_BASES, "model.gguf", "owner/name/model.gguf"))
    assert not any(is_made(address) for address in ("owner/name", "/models/base", "s3://bucket/model.gguf"))


def test_claims_and_their_paths_in_a_pod():
    assert claim_of("pvc://data/rows/a.jsonl") == "data"
    assert claim_of("pvc://data") == "data"
    assert claim_of("s3://data/rows") is None
    assert claim_of(None) is None
    assert claims_in(["pvc://b/x", "s3://c/y", "pvc://a", "pvc://b/z"]) == ["a", "b"]
    assert pod_path("pvc://data/rows/a.jsonl") == "/volumes/data/rows/a.jsonl"
    assert pod_path("s3://bucket/a.jsonl") == "s3://bucket/a.jsonl"
