"""Responsible for the demo: starts the shop, sends load at it, and shows its metrics read from outside every 2 s.

Run it with `python -m examples.shop.demo` from the root of the repository, with the interpreter of the environment the
project is installed in. It ends on Ctrl-C, SIGTERM or SIGHUP, or after DEMO_SECONDS seconds, and returns 0 if
otel_perf counted exactly the requests that were sent, 1 if it did not or a child failed, and 2 for a setting that is
not accepted.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import httpx

from examples.shop import live, load
from examples.shop.children import Child, end, free_ports, is_free
from examples.shop.services import SERVICE_NAME, WORKERS, start_shop, start_supplier
from examples.shop.settings import SettingError, run_seconds
from examples.shop.table import Reading, counts, render, rows
from examples.shop.tally import Tally, closing_line

T = TypeVar("T")

_HOST = "127.0.0.1"
_PROMETHEUS_PORT = 9464
_TABLE_INTERVAL_S = 2.0
_START_DEADLINE_S = 30.0
# Longer than a client waits for one answer, so that every request has ended in one way or the other.
_DRAIN_DEADLINE_S = 15.0
_COUNT_DEADLINE_S = 5.0
_POLL_S = 0.05


class DemoError(Exception):
    """The demo cannot go on; the message is for the user."""


class _ChildEndedError(Exception):
    """A child ended by itself; what went wrong is reported when the children are ended."""


class _StoppedError(Exception):
    """The user stopped the demo before the load began."""


def _say(text: str) -> None:
    # Flushed, because a table in the buffer of a pipe is of no use to anybody.
    print(text, flush=True)


class Demo:
    """One run: its children, its load and what it prints."""

    def __init__(self, seconds: int | None, directory: Path) -> None:
        """Prepares a run; nothing is started.

        Args:
            seconds: How long to send requests; None until `stop` is called.
            directory: Gets the database and the logs; the caller removes it.
        """
        self._seconds = seconds
        self._directory = directory
        self._stop = asyncio.Event()
        self._children: list[Child] = []
        self._tally = Tally()

    def stop(self) -> None:
        """Ends the run in good order; meant for signal handlers."""
        self._stop.set()

    async def run(self) -> bool:
        """Runs from start to summary and ends every child, whatever happens.

        Returns:
            Whether every request was counted and no child failed.
        """
        equal = True
        failures: list[str] = []
        try:
            equal = await self._run()
        except _StoppedError:
            _say("Stopped before the load began.")
        except _ChildEndedError:
            pass
        except (DemoError, OSError) as error:
            failures.append(str(error))
        finally:
            failures += await end(self._children)
        for failure in failures:
            print(f"shop demo: {failure}", file=sys.stderr)
        return equal and not failures

    async def _run(self) -> bool:
        supplier_port, shop_port, spare_port = free_ports(3)
        supplier_url, shop_url = f"http://{_HOST}:{supplier_port}", f"http://{_HOST}:{shop_port}"
        metrics_port = _PROMETHEUS_PORT if is_free(_PROMETHEUS_PORT) else spare_port
        metrics_url = f"http://{_HOST}:{metrics_port}/metrics"

        async with httpx.AsyncClient(timeout=2.0, trust_env=False) as probe:

            async def answers(url: str) -> bool | None:
                try:
                    await probe.get(url)
                except httpx.HTTPError:
                    return None
                return True

            supplier = self._started(start_supplier(supplier_port, self._directory))
            await self._until(lambda: answers(supplier_url), supplier, "does not answer")
            shop = self._started(start_shop(shop_port, supplier_url, metrics_port, self._directory))
            await self._until(lambda: answers(f"{shop_url}/healthz"), shop, "does not answer")

            async def attached() -> live.LiveMetrics | None:
                return live.attach(SERVICE_NAME, shop.process_id)

            metrics = await self._until(attached, shop, "has no segment, so otel_perf is not active in it")
            served = await answers(metrics_url)

        _say(f"shop     gunicorn with {WORKERS} workers, process {shop.process_id}")
        _say(f"metrics  {metrics_url}" + ("" if served else "  (does not answer: is another exporter configured?)"))
        _say(f"segment  {metrics.path}  ({metrics.size} bytes)")
        try:
            return await self._measure(shop_port, metrics)
        finally:
            metrics.close()

    def _started(self, child: Child) -> Child:
        self._children.append(child)
        return child

    async def _until(self, check: Callable[[], Awaitable[T | None]], child: Child, problem: str) -> T:
        deadline = time.monotonic() + _START_DEADLINE_S
        while (result := await check()) is None:
            if time.monotonic() > deadline:
                raise DemoError(
                    f"{child.name} {problem} after {_START_DEADLINE_S:.0f} s; the end of its log:\n{child.log_tail()}"
                )
            await self._pause(_POLL_S)
            if self._stop.is_set():
                raise _StoppedError
        return result

    async def _pause(self, seconds: float) -> None:
        """Waits, but no longer than until the user stops the demo or a child ends."""
        deadline = time.monotonic() + seconds
        while not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            if any(child.ended() for child in self._children):
                raise _ChildEndedError
            await asyncio.sleep(min(left, _POLL_S))

    async def _measure(self, shop_port: int, metrics: live.LiveMetrics) -> bool:
        begin = time.monotonic()
        enough = asyncio.Event()
        sending = asyncio.create_task(load.generate(_HOST, shop_port, self._tally, enough))
        try:
            await self._show_tables(metrics, sending, begin)
            seconds = time.monotonic() - begin
            enough.set()
            await asyncio.wait({sending}, timeout=_DRAIN_DEADLINE_S)
        finally:
            sending.cancel()
            await asyncio.wait({sending})
        reading = await self._settled(metrics)
        self._summarise(reading, seconds)
        return counts(reading) == dict(self._tally.sent)

    async def _show_tables(self, metrics: live.LiveMetrics, sending: asyncio.Task[None], begin: float) -> None:
        end_at = None if self._seconds is None else begin + self._seconds
        previous, read_at = metrics.read(), begin
        while not self._stop.is_set():
            due = read_at + _TABLE_INTERVAL_S
            if end_at is not None and due > end_at:
                # A last window shorter than the others would show rates that mean little; the summary has it.
                await self._pause(end_at - time.monotonic())
                return
            await self._pause(due - time.monotonic())
            if sending.done():
                sending.result()
            if self._stop.is_set():
                return
            current, now = metrics.read(), time.monotonic()
            _say(f"\nafter {now - begin:.0f} s, the last {now - read_at:.1f} s, {self._tally.in_flight} in flight")
            _say(render(rows(current, previous, now - read_at)))
            previous, read_at = current, now

    async def _settled(self, metrics: live.LiveMetrics) -> Reading:
        """Reads until everything sent is counted: a worker records a request just after its client has the answer."""
        deadline = time.monotonic() + _COUNT_DEADLINE_S
        reading = metrics.read()
        while counts(reading) != dict(self._tally.sent) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_S)
            reading = metrics.read()
        return reading

    def _summarise(self, reading: Reading, seconds: float) -> None:
        _say(f"\nwhole run, {seconds:.1f} s of load")
        _say(render(rows(reading, {}, seconds)))
        _say("")
        for reason, amount in sorted(self._tally.failures.items()):
            _say(f"Requests without a complete answer: {amount} ({reason}).")
        _say(closing_line(self._tally.sent, counts(reading)))


async def _run(seconds: int | None) -> bool:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory(prefix="otel_perf-shop-") as directory:
        demo = Demo(seconds, Path(directory))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A hang-up that is ignored was asked for, by `nohup`; the other two always end the demo.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, demo.stop)
        return await demo.run()


def main() -> int:
    """Runs the demo and returns its exit status."""
    try:
        seconds = run_seconds(os.environ)
    except SettingError as error:
        print(f"shop demo: {error}", file=sys.stderr)
        return 2
    well = asyncio.run(_run(seconds))
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of the output has gone; the interpreter must not fail on the same buffer at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
