"""Running text as ids in one stream, cut into segments or into lines for language models."""

import numpy as np
import tensorflow as tf

from trellis.components.text.batching import untuned
from trellis.components.text.vectorizer import TokenVectorizer

BOUNDARY = 2  # id of the end of a line
ENDS = {"words": "</s>", "characters": "\n"}  # how it is written
UNKNOWN_WORD = "<unk>"


def vocabulary(documents, unit, case="keep", digits="keep", min_count=1, keep=()):
    """A `TokenVectorizer` whose id 2 is the end of a line; `<unk>` in the text is the unknown word.

    Args:
        keep: words that it has in any case.
    """
    tokens = [token for lines in documents for line in lines for token in line]
    adapted = TokenVectorizer.adapt(tokens, case, digits, features=("words",), min_count=min_count, keep=keep)
    end = ENDS[unit]
    words = [end, *(word for word in adapted.words if word not in (end, UNKNOWN_WORD))]
    return TokenVectorizer(words, (), case, digits, features=("words",))


def spelled(vectorizer):
    """What each id is written as, padding as nothing."""
    return ["", UNKNOWN_WORD, *vectorizer.words]


class Stream:
    """A text as one run of ids, with the end of each line in it.

    Args:
        documents: `[[[token, …], …], …]`, see `trellis.components.readers.running_text`.
        vectorizer: of `vocabulary`.
        backwards: each document from its end to its beginning.

    Attributes:
        ids: `(tokens,)`, line ends included.
        lines, documents: where each begins.
        characters: of the text as written, line ends and the spaces between words included.
    """

    def __init__(self, documents, vectorizer, unit, backwards=False):
        numbers, stream = {}, []
        line_starts, document_starts = [], []
        for lines in documents:
            document_starts.append(len(stream))
            for line in reversed(lines) if backwards else lines:
                line_starts.append(len(stream))
                stream += [numbers.setdefault(token, len(numbers)) for token in (line[::-1] if backwards else line)]
                stream.append(-1)
        ids = vectorizer.word_ids(tf.constant(list(numbers), tf.string)).numpy() if numbers else np.zeros(0, np.int32)
        # The one more at the end is what -1 finds.
        self.ids = np.append(ids, BOUNDARY).astype(np.int32)[np.array(stream)]
        self.lines, self.documents = np.array(line_starts), np.array(document_starts)
        sizes = np.array([len(token) for token in numbers] + [0])[np.array(stream)].sum()
        between = 0 if unit == "characters" else sum(max(len(line) - 1, 0) for lines in documents for line in lines)
        self.characters = int(sizes) + between + len(line_starts)

    def __len__(self):
        return len(self.ids)

    def before(self, starts):
        """Ids of the token before each token, the boundary where one of `starts` begins."""
        before = np.concatenate([[BOUNDARY], self.ids[:-1]]).astype(np.int32)
        before[starts] = BOUNDARY
        return before


class Segments:
    """A stream in rows that are read in parallel, cut into segments of equal length; documents begin segments.

    Row by row the segments of one step follow those of the step before, so that states may be carried. A segment that
    ends a document is filled up with padding.

    Attributes:
        inputs, targets: `(steps, rows, length)`, padding 0.
        starts: `(steps, rows)`, whether the state has to be forgotten before.
        places: `(steps, rows, length)`, of each target in the stream; -1 at padding.
    """

    def __init__(self, stream, rows, length):
        each = -(-len(stream) // rows)
        begins = np.union1d(np.arange(0, len(stream), each), stream.documents)
        pieces = [[] for _ in range(rows)]
        for first, end in zip(begins, [*begins[1:], len(stream)], strict=True):
            row = pieces[first // each]
            row += [(at, min(at + length, end), at == first) for at in range(first, end, length)]
        steps = max(map(len, pieces))
        self.places = np.full((steps, rows, length), -1)
        self.starts = np.ones((steps, rows), bool)
        for number, row in enumerate(pieces):
            for step, (first, end, begins_here) in enumerate(row):
                self.places[step, number, : end - first] = np.arange(first, end)
                self.starts[step, number] = begins_here
        before = stream.before(stream.documents)
        there = self.places >= 0
        self.inputs = np.where(there, before[self.places], 0).astype(np.int32)
        self.targets = np.where(there, stream.ids[self.places], 0).astype(np.int32)

    def dataset(self):
        """`({"tokens", "starts"}, targets)` of each step, in order."""
        arrays = {"tokens": self.inputs, "starts": self.starts}, self.targets
        dataset = untuned(tf.data.Dataset.from_tensor_slices(arrays))
        return dataset.apply(tf.data.experimental.assert_cardinality(len(self.inputs))).prefetch(8)


class Lines:
    """The lines of a stream, each on its own; what `trellis.components.text.batching` calls a corpus.

    Attributes:
        lengths: of each line, its end included.
    """

    def __init__(self, stream):
        self.lengths = np.diff([*stream.lines, len(stream)]).astype(np.int32)
        self.tokens = len(stream)
        self.firsts = stream.lines
        self._starts = tf.constant(stream.lines, tf.int32)
        self._lengths = tf.constant(self.lengths)
        # One more, for padding.
        self._ids = tf.constant(np.append(stream.ids, 0), tf.int32)
        self._before = tf.constant(np.append(stream.before(stream.lines), 0), tf.int32)

    def batch(self, rows, time):
        """`{"tokens"}` and targets, `(rows, time)` each, of some lines; rows of -1 are padding."""
        lengths = tf.where(rows >= 0, tf.gather(self._lengths, tf.maximum(rows, 0)), 0)
        places = tf.gather(self._starts, tf.maximum(rows, 0))[:, tf.newaxis] + tf.range(time)
        places = tf.where(tf.sequence_mask(lengths, time), places, tf.size(self._ids) - 1)
        return {"tokens": tf.gather(self._before, places)}, tf.gather(self._ids, places)
