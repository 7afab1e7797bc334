"""The science: one module per step of the pipeline."""

import os

# GNU OpenMP's threads spin while they wait for each other. In some spells with other programs on the cores
# a long spin cost ten times the speed, in others nothing; on an idle machine this short one costs 7 %. It is
# an insurance, and not shown to pay on average: docs/lab-notes.md, training, has all that was
# measured. Set before torch is loaded, which reads it once; what the user set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
