"""`ray job submit --working-dir . -- python jobs/evaluate.py linear|knn|suite ... --from CKPT --data URI`

The same words as `mimray evaluate`, on the cluster that the job was submitted to. CKPT, the data and
--storage are read on every host: name folders that all see. The driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
