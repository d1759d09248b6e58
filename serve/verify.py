"""Verify an export: `trellis verify exports/bilstm_crf`

Load it in a separate process through TensorFlow's C API, as TensorFlow Serving does, repeat the requests stored with
it, and compare the answers with those from the day it was written.
"""

import argparse
import sys
from collections.abc import Sequence

from trellis.components.command import CommandParser, run_command
from trellis.components.saved_model.verification import verify
from trellis.components.saved_model.versions import latest


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = CommandParser("trellis verify", __doc__)
    parser.add_argument("export", help="an export folder (its newest version), or one version")
    return run_command(parser, _verify, parser.parse_args(arguments))


def _verify(options: argparse.Namespace) -> None:
    version = latest(options.export)
    verification = verify(version)
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file())
    print(f"{version}: verified; {size / 2**20:.1f} MiB, loaded in {verification.loading:.2f} s")
    width = max(len(check.signature) for check in verification.signatures)
    print(f"{'signature':<{width}}  requests  difference  ms")
    for check in verification.signatures:
        print(f"{check.signature:<{width}}  {check.requests:>8}  {check.difference:>10.1e}  {check.milliseconds:.1f}")


if __name__ == "__main__":
    sys.exit(main())
