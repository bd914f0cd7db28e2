"""This host or others over SSH go in; an archive of each one's network state comes out, or the script that makes it."""

from __future__ import annotations

import dataclasses
import importlib.resources
import os
import re
import signal
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO

from tcpwhy.evidence.state import STATE_FILES

HOST_S = 300.0
"""Seconds for one host, connecting and asking for a password included; the script itself ends its work after 90."""

AT_ONCE = 16
"""Hosts that are asked at the same time."""

LARGEST = 4 << 30
"""Bytes of an archive that are taken of a host."""

Tell = Callable[[str], None]
"""Takes a line of what a script says while it works."""


class CollectError(Exception):
    """A host's state could not be collected; the message is one line."""


@dataclasses.dataclass(frozen=True, slots=True)
class Collected:
    """One host that was asked for its state."""

    host: str
    path: Path
    """The archive; it is there only where `error` is None."""
    error: str | None


def script() -> bytes:
    """The POSIX shell script that collects, as a host without tcpwhy runs it: `… | ssh HOST sh -s > host.tar`."""
    return importlib.resources.files("tcpwhy.record").joinpath("collect.sh").read_bytes()


def collect_here(out: IO[bytes], tell: Tell) -> None:
    """This host's state is written to `out`, a real file, as an archive. Raises CollectError."""
    _run(["/bin/sh", "-s"], out, tell)
    check_archive(out)


def archive_name(host: str) -> str:
    """The name of a host's archive without its ending: `user@web1` is `web1`, `ssh://user@web1:22` too. Raises CollectError.

    What begins with `-` is refused: ssh would take it for an option, and an option of ssh can run a program.
    """
    if host.startswith("-") or not host.strip():
        raise CollectError(f"`{host}` is no host name, expected one that does not begin with `-`")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in host):
        raise CollectError("a host name holds a control character, expected none")
    bare = re.sub(r":\d+/?$", "", host.removeprefix("ssh://")) if host.startswith("ssh://") else host
    name = re.sub(r"[^A-Za-z0-9._-]", "_", bare.rpartition("@")[2]).lstrip(".-")
    if not name or bare.rpartition("@")[2].startswith("-"):
        raise CollectError(f"`{host}` is no host name, expected letters or digits")
    return name[:60]


def collect_over_ssh(hosts: Sequence[str], folder: Path, tell: Tell, *, name: str | None = None) -> list[Collected]:
    """Each host's state becomes an archive in `folder`, named after the host, or `name` of a single one.

    The user's own ssh is called, with the user's configuration, keys and agent; hosts are asked at the same time, and one that
    fails does not stop the others. Raises CollectError for names that cannot be hosts, before any is asked.
    """
    names = [archive_name(host) for host in hosts]
    for one in sorted(set(names)):
        if names.count(one) > 1:
            raise CollectError(f"two hosts would be written to {one}.tar, expected each host once")
    plans = [(host, one, folder / (name or f"{one}.tar")) for host, one in zip(hosts, names, strict=True)]
    lock = threading.Lock()

    def told(host: str) -> Tell:
        def tell_one(line: str) -> None:
            with lock:
                tell(f"{host}: {line}")

        return tell_one

    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=min(AT_ONCE, max(1, len(plans)))) as pool:
        futures = [pool.submit(_one_host, host, one, path, told(host), stop) for host, one, path in plans]
        try:
            return [future.result() for future in futures]
        except BaseException:  # ^C: every ssh is ended before this returns
            stop.set()
            for future in futures:
                future.cancel()
            raise


def _one_host(host: str, name: str, path: Path, tell: Tell, stop: threading.Event) -> Collected:
    words = ["ssh", "--", host, "sh", "-s", "--", "-n", name]
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("x+b") as out:
            _run(words, out, tell, stop)
            check_archive(out)
        part.replace(path)
    except CollectError as error:
        return Collected(host, path, str(error))
    except OSError as error:
        return Collected(host, path, (error.strerror or str(error)).lower())
    finally:
        part.unlink(missing_ok=True)
    return Collected(host, path, None)


def _run(words: Sequence[str], out: IO[bytes], tell: Tell, stop: threading.Event | None = None) -> None:
    """Runs a shell that reads the script on its standard input; ends it, and waits for its end, whatever happens here."""
    with tempfile.TemporaryFile() as source:
        source.write(script())
        source.seek(0)
        try:
            # a session of its own: ^C reaches this program, which ends the shell, which ends what it runs
            shell = subprocess.Popen(words, stdin=source, stdout=out, stderr=subprocess.PIPE, start_new_session=words[0] != "ssh")
        except FileNotFoundError:
            raise CollectError(f"the program {words[0]} is not installed") from None
    last: list[str] = []
    reader = threading.Thread(target=_listen, args=(shell, tell, last), daemon=True)
    reader.start()
    try:
        status = _wait(shell, stop)
    finally:
        if shell.poll() is None:
            shell.send_signal(signal.SIGTERM)
            try:
                shell.wait(10)
            except subprocess.TimeoutExpired:
                shell.kill()
                shell.wait()
        reader.join(2)  # a master of ssh that stays (ControlPersist) keeps the pipe open
    if status:
        said = f": {last[0]}" if last else ""
        raise CollectError(f"{words[0]} ended with status {status}{said}")


def _wait(shell: subprocess.Popen[bytes], stop: threading.Event | None) -> int:
    if stop is None:
        return shell.wait()
    waited = 0.0
    while not stop.is_set():
        try:
            return shell.wait(0.2)
        except subprocess.TimeoutExpired:
            waited += 0.2
        if waited > HOST_S:
            raise CollectError(f"no answer within {HOST_S:.0f} seconds")
    raise CollectError("interrupted")


def _listen(shell: subprocess.Popen[bytes], tell: Tell, last: list[str]) -> None:
    """Passes on what the shell says, line by line, bounded; `last` keeps its last line."""
    stream = shell.stderr
    if stream is None:
        raise TypeError("the shell was started without a pipe for its talk")
    with stream:
        for count, raw in enumerate(iter(lambda: stream.readline(4096), b"")):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            if not line:
                continue
            last[:] = [line[:300]]
            if count < 200:
                tell(line[:300])


def check_archive(out: IO[bytes]) -> None:
    """Raises CollectError where a file is no whole archive of one host's state."""
    out.flush()
    if out.seek(0, os.SEEK_END) > LARGEST:
        raise CollectError(f"the archive is larger than {LARGEST >> 30} GiB")
    out.seek(0)
    try:
        with tarfile.open(fileobj=out, mode="r:") as archive:
            names = [PurePosixPath(member.name) for member in archive]
    except tarfile.TarError as error:
        raise CollectError(f"what came back is no whole archive ({error})") from None
    if not any(name.parts[1:] == ("state", "host.json") for name in names):
        raise CollectError("what came back holds no state/host.json")


def check_folder(folder: Path) -> None:
    """Raises CollectError where `folder` holds a state already: two snapshots must not be mixed."""
    state = folder / "state"
    if state.exists() and (not state.is_dir() or any(state.iterdir())):
        raise CollectError(f"{state} is there already, expected a new folder")


def unpack_state(archive: IO[bytes], folder: Path) -> None:
    """The state files of an archive that `collect_here` wrote are put into `folder`/state. Raises CollectError where some are there."""
    check_folder(folder)
    state = folder / "state"
    state.mkdir(parents=True, exist_ok=True)
    archive.seek(0)
    with tarfile.open(fileobj=archive, mode="r:") as opened:
        for member in opened:
            path = PurePosixPath(member.name)
            content = opened.extractfile(member) if member.isreg() and path.name in STATE_FILES else None
            if content is not None:
                (state / path.name).write_bytes(content.read())
