"""The places that ``lorry gc`` is given: buckets, folders, work folders and volumes of a cluster, alike in use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from components.collect_garbage.checkpoint_items import readable
from components.collect_garbage.items import Item, Listing, Outcome
from components.collect_garbage.places import delete_items, list_place
from components.errors import ClusterError, StoreError
from components.storage.store import in_bucket
from pipelines.config.addresses import claim_of
from pipelines.garbage.volume_job import VolumeJob
from pipelines.garbage.work_folder import delete_from_work_folder, is_work_folder, list_work_folder
from pipelines.local.workdir import Workdir

Report = Callable[[str], None]
IN_USE = "a run or another gc uses this work folder now"
# A process takes no argument of more than 128 KiB.
MAX_ARGUMENT_BYTES = 100_000


class Place(Protocol):
    """One place. ``is_shared``: others than the runs of this machine may use it."""

    @property
    def address(self) -> str: ...

    @property
    def is_shared(self) -> bool: ...

    def list(self, report: Report) -> Listing:
        """Everything of Lorry's in it."""
        ...

    def delete(self, items: Sequence[Item], report: Report) -> Iterator[Outcome]:
        """Delete items as they were listed, and say what became of each."""
        ...


@dataclass(frozen=True)
class StorePlace:
    """A bucket, or a folder that is a store or a checkpoint root."""

    address: str
    is_shared: bool = True

    def list(self, report: Report) -> Listing:
        report(f"{self.address}: listing")
        return list_place(self.address)

    def delete(self, items: Sequence[Item], report: Report) -> Iterator[Outcome]:
        return delete_items(self.address, items, report)


@dataclass(frozen=True)
class WorkFolderPlace:
    """A part of a work folder: the folder itself, its store or its checkpoints."""

    workdir: Workdir
    part: StorePlace | None = None
    is_shared: bool = False

    @property
    def address(self) -> str:
        return str(self.workdir.root) if self.part is None else self.part.address

    def list(self, report: Report) -> Listing:
        report(f"{self.address}: listing")
        listing = list_work_folder(self.workdir) if self.part is None else list_place(self.part.address)
        with readable(self.workdir.root):
            if not self.workdir.is_in_use:
                return listing
        held = [item.model_copy(update={"held": item.held or IN_USE}) for item in listing.items]
        return listing.model_copy(update={"items": held})

    def delete(self, items: Sequence[Item], report: Report) -> Iterator[Outcome]:
        with readable(self.workdir.root), self.workdir.alone() as got:
            if not got:
                report(f"{self.address}: {IN_USE}; nothing is deleted")
                yield from (Outcome(kind=i.kind, name=i.name, size_bytes=0, kept_because=IN_USE) for i in items)
            elif self.part is not None:
                yield from self.part.delete(items, report)
            else:
                for item in items:
                    kept = delete_from_work_folder(self.workdir, item)
                    size = 0 if kept else item.size_bytes
                    yield Outcome(kind=item.kind, name=item.name, size_bytes=size, kept_because=kept)


@dataclass(frozen=True)
class VolumePlace:
    """A claim's volume, which a Job lists and cleans."""

    job: VolumeJob
    is_shared: bool = True

    @property
    def address(self) -> str:
        return self.job.address

    def list(self, report: Report) -> Listing:
        report(f"{self.address}: listing, by the job {self.job.name}")
        results = list(self.job.run([], report))
        try:
            return Listing.model_validate_json(results[-1])
        except (IndexError, ValidationError) as error:
            raise ClusterError(
                f"{self.address}: the pod of job {self.job.name} gave no listing that this version of Lorry reads; "
                "build the images of this version"
            ) from error

    def delete(self, items: Sequence[Item], report: Report) -> Iterator[Outcome]:
        for batch in batches(items):
            report(f"{self.address}: deleting {len(batch)}, by the job {self.job.name}")
            for line in self.job.run(["--delete", batch_argument(batch)], report):
                yield Outcome.model_validate_json(line)


def batches(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Items in their order, as many at a time as one argument of a process holds."""
    batch: list[Item] = []
    n_bytes = 0
    for item in items:
        length = len(batch_argument([item]))
        if batch and n_bytes + length > MAX_ARGUMENT_BYTES:
            yield batch
            batch, n_bytes = [], 0
        batch.append(item)
        n_bytes += length
    if batch:
        yield batch


def batch_argument(items: Sequence[Item]) -> str:
    """Items as the argument of the program in the pod."""
    return json.dumps([item.model_dump(mode="json", exclude={"needs", "held"}) for item in items])


def places_at(address: str, job_of: Callable[[str, str], VolumeJob]) -> list[Place]:
    """The places at an address; ``job_of`` gives the Job of a claim and a folder on it.

    Raises:
        StoreError: the folder does not exist.
    """
    if claim := claim_of(address):
        return [VolumePlace(job_of(claim, address.partition(f"://{claim}")[2].strip("/")))]
    if "://" in address:
        if not in_bucket(address):
            raise StoreError(f"{address}: give a folder, s3://bucket/folder, gs://bucket/folder or pvc://claim/folder")
        return [StorePlace(address.rstrip("/"))]
    folder = Path(address).absolute()
    if not folder.is_dir():
        raise StoreError(f"{address}: no such folder; correct the path, or give the address of a store or a claim")
    if not is_work_folder(folder):
        return [StorePlace(str(folder))]
    workdir = Workdir(folder)
    parts = [StorePlace(str(path)) for path in (workdir.store, workdir.checkpoints) if path.is_dir() and _holds(path)]
    return [WorkFolderPlace(workdir), *(WorkFolderPlace(workdir, part) for part in parts)]


def _holds(folder: Path) -> bool:
    return any(folder.iterdir())
