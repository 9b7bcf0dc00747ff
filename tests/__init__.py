import os

import pytest

# The workers of pytest-xdist share the cores: threads of several that wait for each
# other hold up all of them. It is read when torch and NumPy are imported, here and in
# what tests run.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    n_threads = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, n_threads)))

# What these helpers assert is explained when it fails, as in the tests themselves.
pytest.register_assert_rewrite(
    "tests.commands",
    "tests.encoder.util",
    "tests.optimizers",
    "tests.scripts",
    "tests.util",
)
