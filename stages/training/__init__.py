"""Data sets and training loops."""

import os

# GNU OpenMP's threads spin while they wait for each other. Where other programs take the cores, every step
# can then wait for whole time slices: on two contended cores 60 to 210 images/s were seen with the long
# default spin and 1,000 with this short one, in turn. One busy neighbour alone does not show it, and an idle
# machine loses 7 % (benchmarks.training_speed). Set before torch is loaded, which reads it once; what the
# user set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
