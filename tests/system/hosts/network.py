"""Several hosts on this machine: network namespaces on a bridge, each with a host name and an address of its own.

What listens on 127.0.0.1 of this machine (databases, brokers, Airflow's server) is relayed to the bridge's address, so
that a program of a host reaches it over the host's link, which can be cut. Needs root and iproute2.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from dev.airflow_client import poll

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping, Sequence


def why_not() -> str | None:
    """Why this machine cannot have hosts; None: it can."""
    for program in ("ip", "unshare"):
        if shutil.which(program) is None:
            return f"no {program} on this machine (Debian: iproute2, util-linux)"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    name = f"pt-{uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        _ip("netns", "del", name)
        return None
    return f"no network namespaces here: {made.stderr.strip()}"


class Network:
    """A bridge with hosts. Made on entry; on exit all that ran on its hosts is ended, and nothing of it is left."""

    def __init__(self, *names: str) -> None:
        self._tag = f"pt{uuid4().hex[:6]}"
        self._subnet = _free_subnet()
        self.address = f"{self._subnet}.1"
        """Of this machine, as the hosts see it."""
        self.hosts = {name: Host(self, name, number) for number, name in enumerate(names, start=2)}
        self._relay = _Relay(self.address)

    def __enter__(self) -> Self:
        try:
            _ip("link", "add", self._tag, "type", "bridge")
            _ip("addr", "add", f"{self.address}/24", "dev", self._tag)
            _ip("link", "set", self._tag, "up")
            for host in self.hosts.values():
                host.make(self._tag, f"{self._subnet}.{host.number}/24")
            self._relay.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def relay(self, port: int) -> None:
        """Let the hosts reach what listens on this port of 127.0.0.1."""
        self._relay.add(port)

    def close(self) -> None:
        """End everything."""
        for host in self.hosts.values():
            host.remove()
        self._relay.stop()
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._tag)

    @property
    def left(self) -> str:
        """What there still is of it: empty after the end."""
        return "\n".join(line for part in ("link", "netns") for line in _ip(part).splitlines() if self._tag in line)


class Host:
    """One host of a network."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self._namespace = f"{network._tag}-{name}"
        self._link = f"{network._tag}{number}"
        self._programs: list[subprocess.Popen[bytes]] = []

    def make(self, bridge: str, address: str) -> None:
        """Bring it up."""
        _ip("netns", "add", self._namespace)
        _ip("link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self._namespace)
        _ip("link", "set", self._link, "master", bridge, "up")
        for arguments in (
            ("addr", "add", address, "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            _ip("-n", self._namespace, *arguments)

    def start(self, argv: Sequence[str], env: Mapping[str, str], log: Path) -> None:
        """Start a program here; what it prints goes to ``log``."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name, *argv]
        with log.open("ab") as file:
            program = subprocess.Popen(
                ["ip", "netns", "exec", self._namespace, *named],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._programs.append(program)

    def processes(self) -> list[int]:
        """All processes that run here."""
        found = subprocess.run(["ip", "netns", "pids", self._namespace], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def cut(self) -> None:
        """Cut its link: packets are lost without a word."""
        _ip("link", "set", self._link, "down")

    def mend(self) -> None:
        """Mend its link."""
        _ip("link", "set", self._link, "up")

    def kill(self) -> None:
        """Everything here ends at once, as in a loss of power."""

        def none_left() -> bool:
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            return not self.processes()

        poll(f"the end of {self.name}", none_left, timeout=30, every=0.05)

    def remove(self) -> None:
        """End everything here, and the host."""
        if Path("/run/netns", self._namespace).exists():
            self.kill()
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "del", self._link)
            _ip("netns", "del", self._namespace)

    def _reap(self) -> None:
        """Collect the programs, and those of their children that this process has inherited."""
        self._programs = [each for each in self._programs if each.poll() is None]


class _Relay:
    """Passes connections on to 127.0.0.1, on a thread of its own."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-relay", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        self._thread.start()

    def add(self, port: int) -> None:
        made = asyncio.run_coroutine_threadsafe(self._serve(port), self._loop)
        self._servers.append(made.result(10))

    def stop(self) -> None:
        if self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    async def _serve(self, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._open.add(task)
            try:
                answers, requests = await asyncio.open_connection("127.0.0.1", port)
                with contextlib.closing(requests):
                    await _both(_pass_on(reader, requests), _pass_on(answers, writer))
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                self._open.discard(task)
                writer.close()

        return await asyncio.start_server(connected, self._address, port)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)


async def _both(*ways: Coroutine[Any, Any, None]) -> None:
    """Until one way has ended: the programs here close a connection, not half of it."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while content := await reader.read(65536):
        writer.write(content)
        await writer.drain()


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise subprocess.CalledProcessError(done.returncode, ["ip", *arguments], done.stdout, done.stderr)
    return done.stdout


def _free_subnet() -> str:
    """The first three numbers of a network that this machine does not have yet."""
    taken = _ip("-o", "-4", "addr")
    numbers = list(range(1, 255))
    random.shuffle(numbers)
    return next(subnet for number in numbers if f" {(subnet := f'10.77.{number}')}." not in taken)
