"""Data sets and training loops."""

import os

# GNU OpenMP's threads spin while they wait for each other. Where another program takes one of two cores,
# every step then waits for a whole time slice: 60 images/s were seen where 1,000 are possible. A short spin
# keeps most of an idle machine's speed (3,370 of 3,835 images/s; without any spin about 2,000) and loses
# little beside a busy program. Set before torch is loaded, which reads it once; what the user set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
