"""`ray job submit --working-dir . -- python jobs/finetune.py RECIPE --from CKPT [section.key=value ...]`

The same words as `mimray finetune`, on the cluster that the job was submitted to. CKPT is read on every
host: name a folder that all see. The driver's exit status is the verb's.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
