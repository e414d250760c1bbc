"""Settings of every test process and of the processes it starts."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: threads would only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
