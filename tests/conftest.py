"""One thread a process: two test processes run side by side."""
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported; scripts run by tests inherit it
