"""`ray job submit --working-dir . -- python jobs/pretrain.py RECIPE [section.key=value ...]`

The same words as `mimray pretrain`, on the cluster that the job was submitted to. The driver's exit
status is the verb's: 0 done, 2 wrong input, 3 failed, 75 stopped and to be submitted again.
"""

import sys
from pathlib import Path

# the uploaded code, not an installed one
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mimray.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
