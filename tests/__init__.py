import pytest

# What these helpers assert is explained when it fails, as in the tests themselves.
pytest.register_assert_rewrite(
    "tests.commands",
    "tests.encoder.util",
    "tests.optimizers",
    "tests.scripts",
    "tests.util",
)
