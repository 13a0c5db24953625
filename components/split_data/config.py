"""The recipe's ``split`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from components.artifacts.contracts import BaseModelRef

Format = Literal["messages", "sharegpt", "alpaca", "prompt_completion"]
Fraction = Annotated[float, Field(gt=0, lt=1, description="share of the usable rows: 0.1 is a tenth")]
Revision = Annotated[
    str | None,
    Field(
        description="sha256 of the file or folder, or commit of the hub data set; written when the recipe is resolved"
    ),
]


class Section(BaseModel):
    """Frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(Section):
    """One file, folder or data set that rows are read from."""

    data: Annotated[
        str,
        Field(
            min_length=1, description="path or bucket address of a .jsonl, .json, .csv or .parquet file, or a hub id"
        ),
    ]
    data_split: Annotated[str, Field(description="which split of a hub data set is read; files ignore it")] = "train"
    data_revision: Revision = None
    format: Annotated[Format | None, Field(description="how a row is written; None = the format of the first rows")] = (
        None
    )
    limit: Annotated[int | None, Field(gt=0, description="rows read from the start of the data; None = all")] = None
    weight: Annotated[
        float | None, Field(gt=0, description="share of the mix by rows, against the others'; None = every row")
    ] = None


class DuplicatesConfig(Section):
    """Duplicates and near-duplicates. A row equal to an earlier one but for case and white space is always dropped."""

    near: Annotated[
        Literal["group", "drop", "keep"],
        Field(
            description="near-duplicates: kept in one split together, dropped but for the first, or not searched for"
        ),
    ] = "group"
    jaccard_threshold: Annotated[
        float, Field(ge=0.5, le=1, description="share of common shingles from which two rows are near-duplicates")
    ] = 0.8
    shingle_words: Annotated[int, Field(gt=0, le=20, description="words a shingle; conversations are short")] = 3


class DecontaminationConfig(Section):
    """Texts that no row may hold: benchmarks, prompts of an evaluation."""

    files: Annotated[
        list[str], Field(description="paths or bucket addresses of .txt, .jsonl, .json, .csv, .parquet or .yaml files")
    ] = []
    revisions: Annotated[list[str], Field(description="sha256 of each file; written when the recipe is resolved")] = []
    ngram_words: Annotated[
        int, Field(ge=4, le=50, description="a row that shares so many words in a row is dropped")
    ] = 13


class QualityConfig(Section):
    """Which rows are worth training on. A bound that is None is not applied."""

    min_tokens: Annotated[int | None, Field(gt=0, description="tokens of all messages, by the base model")] = None
    max_tokens: Annotated[int | None, Field(gt=0, description="tokens of all messages, by the base model")] = None
    min_turns: Annotated[int | None, Field(gt=0, description="answers of the assistant")] = None
    max_turns: Annotated[int | None, Field(gt=0, description="answers of the assistant")] = None
    max_repetition: Annotated[
        float,
        Field(gt=0, le=1, description="share of an answer's three-word n-grams that occur earlier in it; 1 keeps all"),
    ] = 0.9
    min_perplexity: Annotated[float | None, Field(gt=1, description="of the answers, under the base model")] = None
    max_perplexity: Annotated[float | None, Field(gt=1, description="of the answers, under the base model")] = None

    @property
    def counts_tokens(self) -> bool:
        """Whether the base model's tokenizer is needed."""
        return self.min_tokens is not None or self.max_tokens is not None

    @property
    def measures_perplexity(self) -> bool:
        """Whether the base model itself is needed."""
        return self.min_perplexity is not None or self.max_perplexity is not None

    @model_validator(mode="after")
    def _bounds_in_order(self) -> QualityConfig:
        for figure in ("tokens", "turns", "perplexity"):
            low, high = getattr(self, f"min_{figure}"), getattr(self, f"max_{figure}")
            if low is not None and high is not None and low > high:
                raise ValueError(f"min_{figure} {low} is above max_{figure} {high}: no row could pass")
        return self


class SplitConfig(Section):
    """Which chat data is read, which rows are kept, and how many go to which split."""

    data: Annotated[
        str | None,
        Field(
            min_length=1,
            description="path or bucket address of a .jsonl, .json, .csv or .parquet file (also compressed: .gz, .bz2, "
            ".zst, .lz4), of a folder of them, or a hub id",
        ),
    ] = None
    data_split: Annotated[str, Field(description="which split of a hub data set is read; files ignore it")] = "train"
    data_revision: Revision = None
    format: Annotated[Format | None, Field(description="how a row is written; None = the format of the first rows")] = (
        None
    )
    limit: Annotated[int | None, Field(gt=0, description="rows read from the start of the data; None = all")] = None
    sources: Annotated[list[Source], Field(description="several data sets in place of data")] = []
    train_rows: Annotated[int | None, Field(gt=0, description="rows; None = all that the other splits leave")] = None
    train_fraction: Fraction | None = None
    validation_rows: Annotated[int | None, Field(gt=0, description="rows")] = None
    validation_fraction: Fraction | None = None
    test_rows: Annotated[int, Field(ge=0, description="rows; read only when evaluate.test asks")] = 0
    test_fraction: Fraction | None = None
    seed: Annotated[int, Field(ge=0, description="another seed, another split")] = 0
    duplicates: DuplicatesConfig = DuplicatesConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    quality: QualityConfig = QualityConfig()
    base_model: Annotated[
        BaseModelRef | None,
        Field(description="its chat template writes the rows; written when the recipe is resolved"),
    ] = None

    @property
    def all_sources(self) -> list[Source]:
        """Every source; ``data`` counts as one."""
        if self.data is None:
            return self.sources
        return [
            Source(
                data=self.data,
                data_split=self.data_split,
                data_revision=self.data_revision,
                format=self.format,
                limit=self.limit,
            )
        ]

    @model_validator(mode="after")
    def _settings_fit_together(self) -> SplitConfig:
        if self.data is None and not self.sources:
            raise ValueError("data is missing: a path, an address or a hub id (or several in sources)")
        if self.data is not None and self.sources:
            raise ValueError("data and sources are both given; give one of them")
        if self.validation_rows is None and self.validation_fraction is None:
            raise ValueError("validation_rows (a count) or validation_fraction (such as 0.1) is missing")
        if self.validation_rows is not None and self.validation_fraction is not None:
            raise ValueError("validation_rows and validation_fraction are both given; give one of them")
        if self.test_rows and self.test_fraction is not None:
            raise ValueError("give either test_rows or test_fraction, not both")
        if self.train_rows is not None and self.train_fraction is not None:
            raise ValueError("give either train_rows or train_fraction, not both")
        total = sum(filter(None, (self.train_fraction, self.validation_fraction, self.test_fraction)))
        if total > 1:
            raise ValueError(f"the fractions of train, validation and test add up to {total:g}, which is more than 1")
        beside = {"data_split", "data_revision", "format", "limit"} & self.model_fields_set if self.sources else set()
        if any(getattr(self, key) != type(self).model_fields[key].default for key in beside):
            raise ValueError(f"{', '.join(sorted(beside))} beside sources does nothing: give it in each of the sources")
        if self.sources and len({source.weight is None for source in self.sources}) == 2:
            raise ValueError("give every source a weight, or none")
        return self
