"""Recognize, read and write the formats of annotated texts and tagged sentences."""

import gzip
import io
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, get_args

from trellis.components.annotation import brat, token_lines, token_lists, token_tables, tokens, tools
from trellis.components.annotation.annotated_text import AnnotatedText
from trellis.components.annotation.records import is_json, read_records, write_records
from trellis.components.choices import AnnotationFormat, Misfits, OffsetUnit, Tokenizer
from trellis.components.errors import InputError
from trellis.components.files import atomic_write
from trellis.components.readers import conll, conllu, tables, tagged, word_tag
from trellis.components.readers.lines import is_blank, read_lines
from trellis.components.readers.opening import suffix_of
from trellis.components.readers.sentence import Sentence
from trellis.components.readers.sources import Source
from trellis.components.types import FilePath
from trellis.components.urls import is_url

Texts: TypeAlias = list[AnnotatedText]
Sentences: TypeAlias = list[Sentence]
Content: TypeAlias = Sequence[AnnotatedText | Sentence]  # of one kind

FORMATS: tuple[AnnotationFormat, ...] = get_args(AnnotationFormat)
TEXT_FORMATS = ("brat", *tools.TOOLS)  # texts with character offsets; the others have tokens
_LINES_LOOKED_AT = 50
_SUFFIXES: dict[str, AnnotationFormat] = {
    ".ann": "brat",
    ".bio": "conll",
    ".conll": "conll",
    ".conllu": "conllu",
    ".csv": "csv",
    ".iob": "conll",
    ".parquet": "huggingface",
}


class _Reader(NamedTuple):
    """A function that reads a format, and the names of its options."""

    read: Callable[..., Texts | Sentences]
    options: tuple[str, ...]


def _tool(name: str) -> _Reader:
    def read(path: FilePath, encoding: str = "utf-8", offsets: OffsetUnit = "code_points") -> Texts:
        return tools.read(path, name, encoding, offsets)

    return _Reader(read, ("encoding", "offsets"))


def _word_tag(path: FilePath, separator: str | None = None) -> Sentences:
    return word_tag.read(path, separator or _word_tag_separator(path) or "|")


_READERS: dict[AnnotationFormat, _Reader] = {
    "conll": _Reader(conll.read, ("word_column", "tag_column")),
    "conllu": _Reader(conllu.read, ("tag",)),
    "word_tag": _Reader(_word_tag, ("separator",)),
    "csv": _Reader(token_tables.read, ("word", "tag", "sentence", "encoding")),
    "huggingface": _Reader(token_lists.read, ("word", "tag", "names", "encoding")),
    "spacy": _tool("spacy"),
    "prodigy": _tool("prodigy"),
    "doccano": _tool("doccano"),
    "label_studio": _tool("label_studio"),
    "brat": _Reader(brat.read, ()),
}


def read(
    path: FilePath,
    form: AnnotationFormat | None = None,
    *,
    encoding: str | None = None,
    offsets: OffsetUnit | None = None,
    separator: str | None = None,
    word: str | None = None,
    tag: str | None = None,
    sentence: str | None = None,
    word_column: int | None = None,
    tag_column: int | None = None,
    names: Sequence[str] | None = None,
) -> list[AnnotatedText] | list[Sentence]:
    """Read annotated texts or, from a format with tokens, tagged sentences.

    An option that is None has the default of its format.

    Args:
        path: a file, or a brat folder.
        form: the format; None: recognize it.
        encoding: of the file, for formats that are not always UTF-8.
        offsets: what character offsets count.
        separator: of words and tags in `word_tag`.
        word: column of words in `csv`, field of tokens in `huggingface`.
        tag: column of tags in `csv` and `conllu`, field of tags in `huggingface`.
        sentence: column of sentences in `csv`.
        word_column: index of the column of words in `conll`.
        tag_column: index of the column of tags in `conll`.
        names: names of tags that are numbers in `huggingface`.

    Raises:
        InputError: the format is not recognized or has no such option, or the file is malformed; names the file and
            line.
    """
    options = {
        "encoding": encoding,
        "offsets": offsets,
        "separator": separator,
        "word": word,
        "tag": tag,
        "sentence": sentence,
        "word_column": word_column,
        "tag_column": tag_column,
        "names": names,
    }
    form = form or recognize(path, encoding or "utf-8")
    given = {name: value for name, value in options.items() if value is not None}
    reader = _READERS[form]
    for name in given:
        if name not in reader.options:
            takers = ", ".join(other for other, each in _READERS.items() if name in each.options)
            raise InputError(f"{path}: {name} has no effect on the format {form}; it is for {takers}")
    return reader.read(path, **given)


# Recognizing


def recognize(path: FilePath, encoding: str = "utf-8") -> AnnotationFormat:
    """Return the format of a file or folder, by its name and content.

    Raises:
        InputError: the format is not recognized.
    """
    file = Path(path)
    if file.is_dir() or file.with_suffix(".ann").is_file():
        return "brat"
    if not is_url(path) and not file.exists():
        raise InputError(f"{path}: no such file or folder")
    suffix = suffix_of(file)
    if suffix == ".spacy":
        raise InputError(f"{path}: spaCy's binary format; write doc.to_json() of each Doc of the DocBin as JSON lines")
    if token_lists.is_parquet(path):
        return "huggingface"
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    lines = islice(read_lines(path, encoding), _LINES_LOOKED_AT)
    sample = [line for _, line in lines if not is_blank(line)]
    if is_json(file) or (sample and sample[0].lstrip()[:1] in ("{", "[")):
        return _of_json(path, encoding)
    if sample and token_tables.is_header(sample[0]):
        return "csv"
    return "word_tag" if _separator_in(sample) else "conll"


def _of_json(path: FilePath, encoding: str) -> AnnotationFormat:
    records = read_records(path, encoding)
    if not records:
        raise InputError(f"{path}: no records in this file")
    if token_lists.is_record(records[0].value):
        return "huggingface"
    found = tools.recognize(records)
    if found is None:
        fields = records[0].value
        names = f"its fields are {tables.shown(fields)}" if isinstance(fields, dict) else "it has no fields"
        raise InputError(
            f"{records[0].place}: format not recognized ({names}); name it: spacy, prodigy, doccano, label_studio or "
            "huggingface"
        )
    return next(form for form in FORMATS if form == found)


def _word_tag_separator(path: FilePath) -> str | None:
    return _separator_in([line for _, line in islice(read_lines(path), _LINES_LOOKED_AT) if not is_blank(line)])


def _separator_in(lines: Sequence[str]) -> str | None:
    """Return what separates words and tags in lines of `word|TAG` or `word/TAG`; None for other lines."""
    fields = [field for line in lines for field in line.split(" ") if field]
    for separator in ("|", "/"):
        if fields and all(all(field.rpartition(separator)) for field in fields):
            return separator
    return None


# Writing


def format_for(path: FilePath) -> AnnotationFormat:
    """Return the format of a file to write, by its name.

    Raises:
        InputError: files of several formats have such names.
    """
    name = os.fspath(path)
    suffix = suffix_of(name)
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if name.endswith("/") or Path(name).is_dir():
        return "brat"
    choices = "spacy, prodigy, doccano, label_studio or huggingface" if is_json(path) else ", ".join(FORMATS)
    raise InputError(f"{path}: which format? --to {choices}")


@dataclass(frozen=True, kw_only=True)
class WritingOptions:
    """How to write.

    Attributes:
        offsets: what character offsets count.
        separator: of words and tags in `word_tag`.
        tokenizer: how texts become tokens.
        spans: what to do with spans that do not fit tokens, or that overlap.
        by_line: whether each line of a text is a sentence.
    """

    offsets: OffsetUnit = "code_points"
    separator: str = "|"
    tokenizer: Tokenizer = "words"
    spans: Misfits = "error"
    by_line: bool = False


def write(
    path: FilePath,
    form: AnnotationFormat,
    source: FilePath,
    content: Content,
    options: WritingOptions,
) -> int:
    """Write texts or sentences atomically; return how many.

    Texts become sentences, and sentences texts, where the format needs them.

    Args:
        path: the file. For `brat`: a new folder, which gets a document for each text; or one of the two files of a
            document, which gets a line for each text.
        form: the format.
        source: where the content is from, for messages.
        content: what to write.
        options: how.

    Raises:
        InputError: a format cannot express the content, or the file cannot be written.
    """
    if form == "conllu":
        raise InputError(f"{path}: CoNLL-U is read, not written; use conll")
    try:
        if form in TEXT_FORMATS:
            return _write_texts(Path(path), form, source, content, options)
        return _write_sentences(Path(path), form, source, content, options)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error})") from None


def as_sentences(
    source: Source,
    content: Content,
    tokenizer: Tokenizer,
    spans: Misfits,
    by_line: bool = False,
) -> list[Sentence]:
    """Return texts as sentences, see `tokens.sentences_of`; return sentences as they are."""
    sentences = [each for each in content if isinstance(each, Sentence)]
    texts = [each for each in content if isinstance(each, AnnotatedText)]
    return sentences or tokens.sentences_of(source, texts, tokenizer, spans, by_line)


def _write_texts(
    path: Path,
    form: AnnotationFormat,
    source: FilePath,
    content: Content,
    options: WritingOptions,
) -> int:
    sentences = [each for each in content if isinstance(each, Sentence)]
    if sentences:
        tagged.check(source, sentences)
        converted, _ = tagged.in_bio2({"all": source}, {"all": sentences})
        texts = tokens.texts_of(converted["all"])
    else:
        given = (each for each in content if isinstance(each, AnnotatedText))
        texts = tokens.without_gaps(source, given, options.spans)
    if form == "brat":
        return _write_brat(path, texts)
    records = tools.records(texts, form, options.offsets)
    write_text(path, write_records(records, as_list=suffix_of(path) == ".json"))
    return len(texts)


def _write_brat(path: Path, texts: Texts) -> int:
    if path.suffix in (".ann", ".txt"):
        aside = path.with_name(f".part-{path.name}")
        aside.mkdir()
        try:
            brat.write_document(aside / path.with_suffix(".txt").name, _joined(texts))
            for file in aside.iterdir():
                os.replace(file, path.with_name(file.name))
        finally:
            shutil.rmtree(aside)
        return len(texts)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path}: exists, and is not an empty folder")
    aside = path.with_name(f".part-{path.name}")
    aside.mkdir()
    try:
        count = brat.write(aside, texts)
        os.replace(aside, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return count


def _joined(texts: Texts) -> AnnotatedText:
    """Return one text, with a line for each of several texts."""
    position, spans = 0, []
    for text in texts:
        spans += [replace(span, start=span.start + position, end=span.end + position) for span in text.spans]
        position += len(text.text) + 1
    return AnnotatedText("".join(f"{text.text}\n" for text in texts), tuple(spans))


def _write_sentences(
    path: Path,
    form: AnnotationFormat,
    source: FilePath,
    content: Content,
    options: WritingOptions,
) -> int:
    sentences = as_sentences(source, content, options.tokenizer, options.spans, options.by_line)
    tagged.check(source, sentences)
    field = "ner_tags" if _are_entities(sentences) else "tags"
    if form == "huggingface" and suffix_of(path) == ".parquet":
        with atomic_write(path) as part:
            token_lists.write_parquet(part, sentences, field)
    elif form == "huggingface":
        write_text(path, write_records(token_lists.records(sentences, field), as_list=suffix_of(path) == ".json"))
    elif form == "csv":
        table = io.StringIO()
        token_tables.write(table, sentences)
        write_text(path, [table.getvalue()])
    elif form == "word_tag":
        write_text(path, token_lines.word_tag_lines(sentences, options.separator))
    else:
        write_text(path, token_lines.conll_lines(sentences))
    return len(sentences)


def _are_entities(sentences: Sentences) -> bool:
    return any("O" in sentence.tags for sentence in sentences)


def write_text(path: Path, pieces: Iterable[str]) -> None:
    """Write a text file atomically, compressed if its name ends in `.gz`."""
    with atomic_write(path) as part, open(part, "wb") as stored:
        compressed = gzip.GzipFile("", "wb", fileobj=stored, mtime=0) if path.suffix == ".gz" else stored
        for piece in pieces:
            compressed.write(piece.encode("utf-8"))
        if compressed is not stored:
            compressed.close()
