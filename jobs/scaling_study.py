"""`ray job submit --working-dir . -- python jobs/scaling_study.py STUDY [section.key=value ...]`

The same words as `mimray study run`, `--budget HOURS` among them, on the cluster that the job was submitted
to: as many cells at once as it has room for, each with the trainers that its recipe asks for. The data are
read and run.storage is written on every host: name folders that all see. The driver's exit status is the
verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["study", "run", *sys.argv[1:]]))
