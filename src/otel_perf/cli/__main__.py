"""``python -m otel_perf.cli``, for where the command is not on the path."""

import sys

from otel_perf.cli import main

sys.exit(main())
