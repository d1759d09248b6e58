"""Schemas of datasets."""

from typing import Any, Literal

from pydantic import Field, model_validator

from trellis.components.choices import Case, Tokenizer, Unit
from trellis.components.settings import Count, CountOrZero, OpenSchema, Schema, Share, described, optional
from trellis.components.text.settings import CASE, TOKENIZER

Kind = Literal["ner", "pos", "alignment", "language", "classes"]

# The values of `data.task`, and what such a dataset has.
KINDS: dict[Kind, str] = {
    "ner": "sentences with entities",
    "pos": "sentences with a tag for each token",
    "alignment": "sentence pairs",
    "language": "running text",
    "classes": "labelled texts",
}

_PATH = (
    "a folder with the files, or {part: file}; package://FOLDER in this package; null: $TRELLIS_DATA/NAME, then the "
    "cache, then the network"
)


class Reader(OpenSchema):
    """The function that reads a file, and its arguments."""

    target: str = Field(alias="_target_", description="the function: path, **arguments → sentences or sentence pairs")
    word_column: int = optional("CoNLL: the column of the word, from 0; from the end with -1")
    tag_column: int = optional("CoNLL: the column of the tag")
    columns: dict[str, int] | list[str] | None = optional(
        "other columns for feature templates, as column(NAME): {NAME: number} for CoNLL, [NAME] for CoNLL-U"
    )
    tag: str = optional("CoNLL-U: the column of the tag: upos, xpos, feats, deprel, …")
    separator: str = optional("what separates a word from its tag, or the two sides of a sentence pair")
    source_column: CountOrZero = optional("sentence pairs in columns: that of the source side")
    target_column: CountOrZero = optional("sentence pairs in columns: that of the target side")
    gold_column: CountOrZero = optional("sentence pairs in columns: that of the links")
    first: int = optional("the number of the first word in links")
    swapped: bool = optional("links are written target-source")


class Download(Schema):
    """Where a file can be fetched."""

    url: str = described("address of the uncompressed file")
    sha256: str | None = optional("its hash; null: not checked")


class Columns(Schema):
    """Names of the columns of a table."""

    text: str | CountOrZero = described("the column of the text: its name or, without a header, its index from 0")
    label: str | CountOrZero = described("the column of the label, likewise")


class Split(Schema):
    """Shares of data without parts."""

    train: Share = described("share of the training part")
    dev: Share = described("share of the dev part")
    test: Share | None = optional("share of the test part; null: none")

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

    name: str = described("name, under which $TRELLIS_DATA and the cache have it")
    task: Kind = described("what it holds: entities, tags, sentence pairs, running text, or labelled texts")
    path: str | int | float | dict[str, str | dict[str, str]] | None = Field(
        description=_PATH, json_schema_extra={"expected": "a folder or file, {part: file}, or null"}
    )
    language: str | None = described("language code, for the model card; en-es for two")
    licence: str | None = described("licence of the data, for the model card")
    download: dict[str, Download] | None = described("addresses by part; null: none")


class TaggedSentences(Dataset):
    """Sentences with a tag for each token."""

    files: dict[str, str] = described("file name of each part; with or without .gz")
    reader: Reader = described("how a file is read")
    scheme: Literal["bio2", "iobes"] = described("the scheme that the model learns; scores and exports are in BIO2")
    max_length: Count | None = optional("tokens; longer sentences are cut, after a full stop where there is one")


class Bitext(Dataset):
    """Sentence pairs, with gold alignments or without."""

    folder: str = optional("folder in $TRELLIS_DATA and the cache, where it is not the name")
    files: dict[str, Any] = described("of each part: {source, target} of line-parallel files, with sure, possible or "
                                      "naacl for gold links; or one file")  # fmt: skip
    reader: Reader = described("how files are read")
    strict: bool = described("true: empty sides and links outside their sentences are errors; false: left out")
    scored: list[str] = described("parts whose links are gold")
    also: list[str] = described("other bitexts to train on too, by name")
    max_length: Count = described("words of a side; longer pairs are left out")


class RunningText(Dataset):
    """Text for language models."""

    files: dict[str, str] | None = described("file name of each part, or {text: file} to divide; null: the user's own")
    split: Split | None = described("shares of the characters, cut between lines; null: the files are parts")
    unit: Unit = described("tokens are words or characters")
    lines: Literal["sentences", "text"] = described("each line is a sentence, or lines are running text")
    encoding: str = optional("encoding of the files, such as utf-8, latin-1, cp1252")


class LabelledTexts(Dataset):
    """Texts with one label each."""

    files: dict[str, str] | None = described(
        "file of each part, of each class, or {examples: file}; null: the user's own"
    )
    columns: Columns = described("the columns of a table")
    header: bool = optional("whether the first line of a table names its columns; without one the label comes first")
    separator: str | None = optional("tab, comma, semicolon, bars or a character; null: by the file's name")
    encoding: str = optional("encoding of the files, such as utf-8, latin-1, cp1252")
    split: Split | None = described("shares of every class; null: the files are parts")
    split_seed: CountOrZero = described("draws which example goes into which part")
    tokenizer: Tokenizer = described(TOKENIZER)
    case: Case = described(CASE)


SCHEMAS: dict[Kind, type[Dataset]] = {
    "ner": TaggedSentences,
    "pos": TaggedSentences,
    "alignment": Bitext,
    "language": RunningText,
    "classes": LabelledTexts,
}
