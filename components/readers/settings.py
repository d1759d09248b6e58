"""Schemas of datasets."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from trellis.components.choices import AnnotationFormat, Case, Misfits, OffsetUnit, Tokenizer, Unit
from trellis.components.settings import Count, CountOrZero, OpenSchema, Schema, Share, described, optional
from trellis.components.text.settings import CASE, TOKENIZER

Kind = Literal["ner", "pos", "alignment", "language", "classes", "attributes"]

# The values of `data.task`, and what such datasets contain.
KINDS: dict[Kind, str] = {
    "ner": "sentences with entities",
    "pos": "sentences with a tag for each token",
    "alignment": "sentence pairs",
    "language": "running text",
    "classes": "labelled texts",
    "attributes": "attributes with texts",
}

_PATH = (
    "folder of the files, or {part: file}; a file may be a pattern (part-*.txt.gz), a list, or a URL (s3://, gs://, "
    "hf://); package://FOLDER is inside the package; null: search $TRELLIS_DATA/NAME, the cache, then the network"
)
Names = str | list[str]  # of files


class Reader(OpenSchema):
    """The function that reads a file, and its arguments."""

    target: str = Field(
        alias="_target_", description="function that reads a file: path, **arguments → sentences or sentence pairs"
    )
    word_column: int | None = optional("CoNLL: index of the word column; -1 is the last")
    tag_column: int | None = optional("CoNLL: index of the tag column")
    columns: dict[str, int] | list[str] | None = optional(
        "further columns for the template column(NAME): {NAME: index} for CoNLL, [NAME] for CoNLL-U"
    )
    tag: str | None = optional(
        "tag column: in CoNLL-U upos, xpos, feats, deprel, …; in other files its name; null: a usual one"
    )
    word: str | None = optional("word column of a table, or field of tokens; null: a usual one")
    sentence: str | None = optional("sentence column of a table; null: a usual one")
    names: list[str] | None = optional("names of tags that are numbers, from 0; null: as the file has them")
    offsets: OffsetUnit | None = optional(
        "what character offsets count: Unicode code points, as Python does, or UTF-16 units, as JavaScript does; null: "
        "code points"
    )
    encoding: str | None = optional("encoding of the files: utf-8, latin-1, cp1252, …; null: utf-8")
    separator: str | None = optional("separator of word and tag, or of the two sides of a sentence pair")
    source_column: CountOrZero = optional("sentence pairs in columns: index of the source column")
    target_column: CountOrZero = optional("sentence pairs in columns: index of the target column")
    gold_column: CountOrZero = optional("sentence pairs in columns: index of the column of links")
    first: int = optional("index of the first word in links: 0 or 1")
    swapped: bool = optional("links are written as target-source")


class Download(Schema):
    """Where a file can be fetched."""

    url: str = described("URL of the uncompressed file")
    sha256: str | None = optional("SHA-256 hash; null: not checked")
    git_blob: str | None = optional("name of the file in its git repository, a SHA-1 hash; null: not checked")


class Columns(Schema):
    """Names of the columns of a table."""

    text: str | CountOrZero = described("text column: its name or, without a header, its index from 0")
    label: str | CountOrZero = described("label column: its name or, without a header, its index from 0")


class Split(Schema):
    """Shares of data without parts."""

    train: Share = described("share of the training part")
    dev: Share = described("share of the dev part")
    test: Share | None = optional("share of the test part; null: no test part")

    @model_validator(mode="after")
    def _adds_up(self) -> "Split":
        shares = {"train": self.train, "dev": self.dev} | ({"test": self.test} if self.test is not None else {})
        if abs(sum(shares.values()) - 1) > 1e-6:
            written = ", ".join(f"{part}: {share:g}" for part, share in shares.items())
            raise ValueError(
                f"data.split={{{written}}}: the shares add up to {sum(shares.values()):g}, not to 1 "
                "(test: null leaves that part out)"
            )
        return self


class Dataset(Schema):
    """What all datasets have."""

    name: str = described("name of the dataset, and of its folder in $TRELLIS_DATA and the cache")
    task: Kind = described("what the data contain: entities, tags, sentence pairs, running text or labelled texts")
    path: str | int | float | list[str] | dict[str, Names | dict[str, Names]] | None = Field(
        description=_PATH, json_schema_extra={"expected": "a folder or file, a list of files, {part: file}, or null"}
    )
    language: str | None = described("language code for the model card, such as en, or en-es for a pair")
    licence: str | None = described("licence of the data for the model card")
    download: dict[str, Download] | None = described("URL of each part; null: cannot be downloaded")


class TaggedSentences(Dataset):
    """Sentences with a tag for each token."""

    files: dict[str, Names] | None = described(
        "file name of each part, a pattern or a list, compressed or not; null: find them in data.path"
    )
    format: AnnotationFormat | None = optional("format of the files; null: recognize it")
    reader: Reader = described("how to read a file")
    spans: Misfits = optional(
        "spans of characters that begin or end inside of a token, or overlap: error; snap: extend them to whole "
        "tokens; drop: leave them out; both keep the longest of those that overlap"
    )
    lines: bool = optional("true: each line of a text is a sentence; false: each text is")
    split: Split | None = optional("split one file into parts by these shares of its texts or sentences")
    split_seed: CountOrZero = optional("seed of the split")
    scheme: Literal["bio2", "iobes"] = described("tag scheme that the model learns; scores and exports use BIO2")
    max_length: Count | None = optional("maximum tokens; cut longer sentences, preferably after a full stop")
    documents: bool = optional(
        "true: read sentences a second time, knowing what was found in the rest of their document; false: each alone"
    )
    unlabelled: Annotated[str, Field(min_length=1)] | None = optional(
        "tag that marks tokens of the training part without a label, such as ?; null: every token has a label"
    )


class Bitext(Dataset):
    """Sentence pairs, with gold alignments or without."""

    folder: str = optional("folder in $TRELLIS_DATA and the cache, if it is not called data.name")
    files: dict[str, Any] = described(
        "files of each part: one file, or line-parallel {source, target}, with sure, possible or naacl for gold links"
    )
    reader: Reader = described("how to read the files")
    strict: bool = described("true: raise an error for empty sides and links outside their sentences; false: skip them")
    scored: list[str] = described("parts with gold links to score")
    also: list[str] = described("names of further bitexts to train on")
    max_length: Count = described("maximum words of a side; skip longer pairs")
    tokenized: bool = optional("texts are tokens joined by spaces, for the scores of translators; false: raw text")


class RunningText(Dataset):
    """Text for language models."""

    files: dict[str, Names] | None = described(
        "file name of each part, a pattern or a list, or {text: file} to split; null: find them in data.path"
    )
    split: Split | None = described(
        "split one text into parts, between lines, by these shares of its characters; null: files are parts"
    )
    unit: Unit = described("what a token is")
    lines: Literal["sentences", "text"] = described(
        "sentences: each line stands alone; text: lines continue each other"
    )
    encoding: str = optional("encoding of the files: utf-8, latin-1, cp1252, …")
    column: str = optional("column of Parquet files that has the text")


class LabelledTexts(Dataset):
    """Texts with one label each."""

    files: dict[str, Names] | None = described(
        "file of each part or of each class, or {examples: file} to split; null: find them in data.path"
    )
    columns: Columns = described("columns of a table")
    header: bool = optional("the first line of a table names the columns; false: label first, then text")
    separator: str | None = optional(
        "tab, comma, semicolon, bars (|||) or one character; null: decide by the file name"
    )
    encoding: str = optional("encoding of the files: utf-8, latin-1, cp1252, …")
    split: Split | None = described("split into parts by these shares of each class; null: files are parts")
    split_seed: CountOrZero = described("seed of the split")
    tokenizer: Tokenizer = described(TOKENIZER)
    case: Case = described(CASE)


class AttributeColumns(Schema):
    """Names of the columns of a table."""

    attributes: str = described("column of attributes, name[value], other[value]")
    text: str = described("column of texts")


class TextsOfAttributes(Dataset):
    """Attributes, and texts that put them into words."""

    files: dict[str, Names] = described("file name of each part: .csv, .tsv or .parquet, compressed or not")
    columns: AttributeColumns = described("columns of a table")
    open_classes: list[str] = described("attributes whose values are names: copied into texts, not generated")


SCHEMAS: dict[Kind, type[Dataset]] = {
    "ner": TaggedSentences,
    "pos": TaggedSentences,
    "alignment": Bitext,
    "language": RunningText,
    "classes": LabelledTexts,
    "attributes": TextsOfAttributes,
}
