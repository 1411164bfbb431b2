"""flips.py BUNDLE COUNT: which altered bytes a bundle is loaded with. Runs beside bundle.py alone.

Prints a JSON object: for every file [flips refused, flips]. One byte is altered at a time, COUNT at
random, the first and the last, and put back.
"""

import json
import pathlib
import random
import sys

folder, count = pathlib.Path(sys.argv[1]).resolve(), int(sys.argv[2])
sys.path.insert(0, str(folder))

from bundle import BundleError, Policy  # noqa: E402


def refused(file: pathlib.Path, data: bytes, place: int, flip: int) -> bool:
    """Whether the bundle with this byte altered is refused, with a file's name and a remedy."""
    altered = bytearray(data)
    altered[place] ^= flip
    file.write_bytes(altered)
    try:
        Policy.load(folder)
    except BundleError as error:
        return str(folder) in str(error) and "copy" in str(error)
    return False


found, draw = {}, random.Random(0)
for file in sorted(path for path in folder.iterdir() if path.is_file()):
    data = file.read_bytes()
    places = [0, len(data) - 1, *(draw.randrange(len(data)) for _ in range(count))]
    outcomes = [refused(file, data, place, draw.randrange(1, 256)) for place in places]
    file.write_bytes(data)
    found[file.name] = [sum(outcomes), len(outcomes)]
Policy.load(folder)  # whole again
print(json.dumps(found))
