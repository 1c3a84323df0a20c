"""`ray job submit --working-dir . -- python jobs/sweep.py SWEEP [--status] [section.key=value ...]`

The same words as `mimray sweep`, on the cluster that the job was submitted to: as many trials at once as it
has room for. The data are read and run.storage is written on every host: name places that all see. The
driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["sweep", *sys.argv[1:]]))
