"""A Celery application whose broker is a folder: each task counts, and adds its process id to a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from celery import Celery
from opentelemetry import metrics

FOLDER = Path(os.environ["TASKS_FOLDER"])
MESSAGES = FOLDER / "messages"
for folder in (MESSAGES, FOLDER / "control"):
    folder.mkdir(exist_ok=True)

app = Celery("tasks", broker="filesystem://")
app.conf.broker_transport_options = {
    "data_folder_in": str(MESSAGES),
    "data_folder_out": str(MESSAGES),
    "control_folder": str(FOLDER / "control"),
}
app.conf.broker_connection_retry_on_startup = True

_done = metrics.get_meter("tasks").create_counter("tasks.done")
_sizes = metrics.get_meter("tasks").create_histogram("tasks.size", "By")


@app.task(name="tests.count")  # type: ignore[untyped-decorator]
def count() -> None:
    """One task."""
    _done.add(1)
    _sizes.record(100)
    with (FOLDER / "done").open("a") as file:
        file.write(f"{os.getpid()}\n")


if __name__ == "__main__":
    for _ in range(int(sys.argv[1])):
        count.delay()
