"""Settings of every test process and of the processes it starts."""

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are tiny: threads would only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# read when gcsfs is first imported, by whichever test: else it waits a minute for a gRPC answer of an emulator
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
if not Path("/dev/nvidiactl").exists():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is first imported
