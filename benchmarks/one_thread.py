"""Import this before any library: it gives each of them one thread. They ask how many
they get when they are imported.
"""

import os

from .worker import THREAD_VARIABLES

os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
os.environ["TOKENIZERS_PARALLELISM"] = "false"
