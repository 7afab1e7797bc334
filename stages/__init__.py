"""The science: one module per step of the pipeline."""

import os

# GNU OpenMP's threads spin while they wait for each other. Beside one busy program its long spin made
# training up to forty times as slow; this short one costs a tenth of the speed on an idle machine. By length:
# docs/lab-notes.md, training. Set before torch is loaded, which reads it once; what the user set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
