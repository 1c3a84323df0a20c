"""`ray job submit --working-dir . -- python jobs/analyze.py attention|cka|all ... --from CKPT --data URI`

The same words as `mimray analyze`, on the cluster that the job was submitted to. CKPT and the data are
read on every host: name folders that all see. The driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["analyze", *sys.argv[1:]]))
