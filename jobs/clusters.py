"""`ray job submit --working-dir . -- python jobs/clusters.py URI --out FILE [--clusters 512] ...`

The same words as `mimray data clusters`, on the head of the cluster that the job was submitted to. Name
a FILE that outlives the job and that every host sees: a shared folder, or s3://bucket/file to be fetched
from there. The driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", "clusters", *sys.argv[1:]]))
