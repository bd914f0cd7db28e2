"""One tcpdump on one host: a host and the options come in, a capture file in its vantage point folder goes out."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .options import Options

if TYPE_CHECKING:
    from .host import Host


class Capture:
    """A running capture. `lost` is the number of packets that the kernel dropped from it, known after `stop`."""

    def __init__(self, host: Host, interface: str, options: Options, path: Path | None = None) -> None:
        self.path = path or host.folder / f"{interface}.pcap"
        self.lost = 0
        self._talk = host.scratch / f"tcpdump-{self.path.name}.txt"
        command = ["tcpdump", "-i", interface, "-n", "-U", "-B", "16384", "-w", "-"]
        if options.snap:
            command += ["-s", str(options.snap)]
        if interface == "any" and options.capture == "any-sll":
            command += ["-y", "LINUX_SLL"]
        if options.format in ("nano", "pcapng"):
            command += ["--time-stamp-precision=nano"]
        # The file is opened here and tcpdump stays root: it would give the file to another user, which only the real
        # root may do.
        command += ["-Z", "root"]
        with self._talk.open("wb") as talk, self.path.open("wb") as capture:
            self._process = subprocess.Popen(host.command(command), stdin=subprocess.DEVNULL, stdout=capture, stderr=talk)

    @classmethod
    def of_host(cls, host: Host, options: Options) -> list[Capture]:
        """The captures of a host: one on `any`, or one a cable and one on each of its taps."""
        if options.capture.startswith("any"):
            return [cls(host, "any", options)]
        return [cls(host, name, options) for name in (*(interface.port for interface in host.interfaces), *host.taps)]

    def wait_until_listening(self) -> None:
        """Returns when the capture takes packets; raises TimeoutError with tcpdump's words."""
        end = time.monotonic() + 20
        while b"listening on" not in self._talk.read_bytes():
            if time.monotonic() > end or self._process.poll() is not None:
                raise TimeoutError(f"tcpdump: {self._talk.read_text().strip()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the capture and keeps the number of packets it lost."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        dropped = re.search(r"(\d+) packets? dropped by kernel", self._talk.read_text())
        self.lost = int(dropped[1]) if dropped else 0
