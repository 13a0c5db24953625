"""Resolving a recipe: files become digests, hub ids become commits, defaults are written out."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

from pydantic import BaseModel, ConfigDict

from components.base_model import folder_revision
from components.contracts import BaseModelRef
from components.digest import sha256_of
from components.errors import DataError, LorryError, ModelError, RecipeError
from components.evaluate.config import EvaluateConfig
from components.evaluate.prompts import read_prompts
from components.export_gguf.config import ExportConfig
from components.inputs import local_file
from components.publish_model.config import PublishConfig
from components.split_data.config import SplitConfig
from components.split_data.sources import data_folder_revision, is_data_file
from components.store import Store, in_bucket
from components.train_lora.config import TrainConfig
from pipelines.addresses import DEMO_BASE, claim_of, in_pod, is_hub_id
from pipelines.inputs import Input, changed, inputs_of
from pipelines.recipe import Recipe
from pipelines.stopping import interrupt_on_sigterm

log = logging.getLogger(__name__)


class ResolvedRecipe(BaseModel):
    """A recipe whose every input is pinned; ``arguments`` are the pipeline's parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    base_model: BaseModelRef
    split: SplitConfig
    train: TrainConfig
    evaluate: EvaluateConfig
    export: ExportConfig
    publish: PublishConfig

    @property
    def addresses(self) -> dict[str, str]:
        """Every address that a step reads or writes, by its key in the recipe."""
        read = {given.key: given.address for given in self.inputs}
        written = {} if self.publish.store is None else {"publish.store": self.publish.store}
        return {"base_model": self.base_model.address, **read, **written}

    @property
    def inputs(self) -> list[Input]:
        """Every data set, leak file and prompts file, pinned."""
        return inputs_of(self.split, self.evaluate)

    def with_addresses(self, new: Mapping[str, str]) -> ResolvedRecipe:
        """The same inputs, found elsewhere; keys as in ``addresses``."""
        values = dict(new)
        if (base := values.pop("base_model", None)) is not None:
            values["base_model.address"] = base
            if self.split.base_model is not None:
                values["split.base_model.address"] = base
        return changed(self, values)

    def arguments(self, checkpoint_root: Path | str) -> dict[str, Any]:
        """The pipeline's parameters, defaults written out; a missing key means None, which KFP cannot carry."""
        there = self.with_addresses({key: in_pod(address) for key, address in self.addresses.items()})
        sections = there.model_dump(mode="json", exclude={"name"}, exclude_none=True)
        return {**sections, "recipe": self.name, "checkpoint_root": str(checkpoint_root)}


def resolve(recipe: Recipe, workdir: Path, tell: Callable[[str], None]) -> ResolvedRecipe:
    """Pin every input; the demo's base model is made under ``workdir`` when it is not there yet.

    ``tell`` gets a line about each thing that takes time. Addresses stay as they are: see ``on_this_machine`` and
    ``pipelines.upload``.

    Raises:
        DataError: data or prompts are not there.
        ModelError: the base model is not there, or is no model folder.
        RecipeError: what lies on a cluster's volume has no digest in the recipe.
    """
    base_model = _resolve_base(recipe, workdir, tell)
    pins = {given.revision_key: _revision(given) for given in inputs_of(recipe.split, recipe.evaluate)}
    recipe = changed(recipe, pins)
    split = recipe.split
    if split.quality.counts_tokens or split.quality.measures_perplexity:
        split = split.model_copy(update={"base_model": base_model})
    return ResolvedRecipe(
        name=recipe.name,
        base_model=base_model,
        split=split,
        train=recipe.train,
        evaluate=recipe.evaluate,
        export=recipe.export,
        publish=recipe.publish,
    )


def on_this_machine(recipe: ResolvedRecipe, store: Path) -> ResolvedRecipe:
    """The recipe as it runs without a cluster; models go into the folder ``store`` when it names no store.

    Raises:
        RecipeError: an address names a cluster's volume.
    """
    for key, address in recipe.addresses.items():
        if claim_of(address):
            raise RecipeError(
                f"{key} = {address!r}: a volume of a cluster, which this machine does not have; "
                "run it there with lorry submit, or give a path or a bucket"
            )
    return recipe if recipe.publish.store else recipe.with_addresses({"publish.store": str(store)})


def _volume_revision(key: str, address: str, revision_key: str, revision: str | None) -> str:
    """The digest that the recipe gives for something on a cluster's volume.

    Raises:
        RecipeError: it gives none.
    """
    if revision is None:
        raise RecipeError(f"{key} = {address!r}: only the cluster can read it; give its sha256 in {revision_key}")
    return revision


def _revision(given: Input) -> str:
    """The digest or commit of one input."""
    if claim_of(given.address):
        return _volume_revision(given.key, given.address, given.revision_key, given.revision)
    if given.is_data and is_hub_id(given.address):
        return _hub_revision(given)
    if given.is_data and not is_data_file(given.address):
        found = _folder_revision(given)
    else:
        path = local_file(given.address, None)
        if given.key == "evaluate.prompts":
            read_prompts(path)
        if not path.is_file():
            raise DataError(f"{given.address}: no such file; mend {given.key}")
        found = sha256_of(path)
    if given.revision not in (None, found):
        raise DataError(
            f"{given.address}: {given.revision_key} names another content than the file has (sha256 {found}); "
            "mend it, or leave it out"
        )
    return found


def _folder_revision(given: Input) -> str:
    if not in_bucket(given.address):
        return data_folder_revision(Path(given.address))
    if given.revision is None:
        raise RecipeError(
            f"{given.key} = {given.address!r}: a folder of a bucket; give its digest in {given.revision_key}, as lorry "
            "submit printed it, or name one file"
        )
    return given.revision


def _hub_revision(given: Input) -> str:
    from huggingface_hub import dataset_info

    info = _ask_hub("data set", given.address, lambda: dataset_info(given.address, revision=given.revision), DataError)
    return str(info.sha)


def _ask_hub(kind: str, address: str, look_up: Callable[[], Any], error_type: type[LorryError]) -> Any:
    """What the hub says of a repository; its refusal in words that say what to do."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return look_up()
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError, OSError, ValueError) as error:
        first_line = str(error).strip().splitlines()[0]
        raise error_type(
            f"{address}: no such file or folder here, and the hub gives no such {kind} ({first_line}); "
            "check the name, the network and HF_TOKEN, or give a local path"
        ) from error


def _resolve_base(recipe: Recipe, workdir: Path, tell: Callable[[str], None]) -> BaseModelRef:
    if recipe.base_model == DEMO_BASE:
        return _local_base(_make_demo_base(workdir / "base-models", tell))
    if claim_of(recipe.base_model):
        revision = _volume_revision("base_model", recipe.base_model, "base_revision", recipe.base_revision)
        return BaseModelRef(address=recipe.base_model, revision=revision, weight_bytes=0)
    if in_bucket(recipe.base_model):
        return _base_in_bucket(recipe)
    if not is_hub_id(recipe.base_model):
        return _local_base(Path(recipe.base_model))
    from huggingface_hub import model_info

    def look_up() -> Any:
        return model_info(recipe.base_model, revision=recipe.base_revision, files_metadata=True)

    info = _ask_hub("model", recipe.base_model, look_up, ModelError)
    card = info.card_data
    files = info.siblings or []
    weight_bytes = sum(file.size or 0 for file in files if file.rfilename.endswith(".safetensors"))
    if not weight_bytes:
        raise ModelError(f"{recipe.base_model}: has no safetensors weights; choose a base model that has them")
    named = card.get("license") if card else None
    return BaseModelRef(address=recipe.base_model, revision=str(info.sha), weight_bytes=weight_bytes, license=named)


def _base_in_bucket(recipe: Recipe) -> BaseModelRef:
    if recipe.base_revision is None:
        raise RecipeError(
            f"base_model = {recipe.base_model!r}: give its digest in base_revision, as lorry submit printed it"
        )
    store = Store(recipe.base_model)
    weights = [key for key in store.keys("") if key.endswith(".safetensors")]
    if not weights:
        raise ModelError(f"{recipe.base_model}: has no safetensors weights there; mend base_model")
    weight_bytes = sum(store.size_of(key) or 0 for key in weights)
    return BaseModelRef(address=recipe.base_model, revision=recipe.base_revision, weight_bytes=weight_bytes)


def _local_base(folder: Path) -> BaseModelRef:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no base model there (no config.json); mend base_model")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(f"{folder}: has no safetensors weights; save the model with safetensors")
    return BaseModelRef(
        address=str(folder.absolute()),
        revision=folder_revision(folder),
        weight_bytes=sum(path.stat().st_size for path in weights),
        license=_license(folder / "README.md"),
    )


def _license(card: Path) -> str | None:
    """The licence that a model card names, or None."""
    from huggingface_hub import ModelCard

    named = ModelCard.load(card).data.get("license") if card.is_file() else None
    return None if named is None else str(named)


def _make_demo_base(root: Path, tell: Callable[[str], None]) -> Path:
    # A child process: torch takes seconds to load, and the command line must not need it.
    command = [sys.executable, "-m", "pipelines.demo_base", str(root)]
    lines = []
    with interrupt_on_sigterm(), subprocess.Popen(command, stdout=PIPE, stderr=STDOUT, text=True) as child:
        assert child.stdout is not None
        try:
            for line in child.stdout:
                lines.append(line.rstrip())
                tell(line.rstrip())
        finally:
            child.terminate()  # it has ended already unless this process is told to stop
    if child.returncode != 0:
        raise ModelError("the demo's base model could not be made: " + " ".join(lines[-1:]))
    return Path(lines[-1])
