"""Shows what a robot data set holds and proposes its dataset spec row.

python -m rt2.data.inspect DIR [--spec=NAME] [--json=FILE] [--html=FILE] [--rerun=FILE.rrd]
"""

import argparse
import json
import sys
from pathlib import Path

from rt2.data import storage
from rt2.data.errors import DataError
from rt2.data.inspect import page, recording
from rt2.data.inspect.survey import survey
from rt2.data.inspect.text import as_text


def main() -> None:
    """Prints the survey of a data set; writes it as JSON, a page or a recording where asked."""
    parser = argparse.ArgumentParser(prog="python -m rt2.data.inspect", description=main.__doc__)
    parser.add_argument("directory", type=storage.at, help="folder or URL of one version")
    parser.add_argument("--spec", help="a row of rt2.data.specs instead of the proposed one")
    parser.add_argument("--json", type=Path, help="write the survey as JSON")
    parser.add_argument("--html", type=Path, help="write the survey as a page")
    parser.add_argument("--rerun", type=Path, help="write episodes as a rerun recording (.rrd)")
    args = parser.parse_args()
    try:
        found = survey(args.directory, args.spec)
        print(as_text(found))
        if args.json:
            args.json.write_text(json.dumps(found, indent=2) + "\n")
        if args.html:
            args.html.write_text(page.page(found), encoding="utf-8")
            print(f"\nwrote {args.html}")
        if args.rerun:
            recording.write(args.rerun, found)
            print(f"\nwrote {args.rerun}: rerun {args.rerun}")
    except DataError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
