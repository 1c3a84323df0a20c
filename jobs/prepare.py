"""`ray job submit --working-dir . -- python jobs/prepare.py SRC DST [--shorter-side 256] ...`

The same words as `mimray data prepare`, on the cluster that the job was submitted to. SRC is read and DST
is written on every host: name places that all see. The driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "prepare", *sys.argv[1:]]))
