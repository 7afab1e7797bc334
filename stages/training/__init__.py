"""Data sets and training loops."""

import os

# OpenMP's threads spin while they wait for each other. Where another program takes one of the cores, every
# step then waits for a whole time slice: training was seen to run 5 to 18 times slower beside one busy
# process. Set before torch is loaded, which reads it once; a value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
