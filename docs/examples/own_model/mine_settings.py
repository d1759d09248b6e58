"""What the keys of `conf/model/mine.yaml` may be; in a file of its own, which does not import TensorFlow."""

from trellis.components.models.settings import Model
from trellis.components.settings import Count, Rate, described


class Mine(Model):
    """A tagger of words alone."""

    units: Count = described("width of the word vectors and of the GRU in each direction")
    dropout: Rate = described("dropout of the word vectors")
