"""Is an export well? `trellis verify exports/bilstm_crf`

Loads it in a clean process through TensorFlow's C API, as TensorFlow Serving does, asks it the requests that were
stored with it, and compares the answers with those of the day it was written.
"""

import argparse
import sys

from trellis.components.errors import InputError
from trellis.components.saved_model.verification import verify
from trellis.components.saved_model.versions import latest


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="trellis verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("export", help="an export folder (its newest version) or one version of it")
    options = parser.parse_args(arguments)
    try:
        version = latest(options.export)
        loading, answers = verify(version)
    except InputError as error:
        print(f"trellis verify: error: {error}", file=sys.stderr)
        return 2
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"{version}: well; {size / 2**20:.1f} MiB, loaded in {loading:.2f} s")
    width = max(len(answer.signature) for answer in answers)
    print(f"{'signature':<{width}}  requests  difference  ms")
    for answer in answers:
        print(
            f"{answer.signature:<{width}}  {answer.requests:>8}  {answer.difference:>10.1e}  {answer.milliseconds:.1f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
