"""TLS as it ends in practice: close_notify and FIN, close_notify and RST, and no word at all."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from ..firewall import build
from ..healthy import all_well
from ..host import run_checked
from ..load import Load, Talk
from ..scenario import Scenario
from ..services import BACKEND, nginx
from ..world import World


def story(world: World) -> None:
    """An nginx with TLS on 443; thirty clients end in three ways."""
    row = build(world)
    folder = row.server.scratch
    run_checked(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=shop.example -keyout {folder}/key.pem -out {folder}/cert.pem".split()
    )
    wide = "[::]" if world.options.ip == "6" else "0.0.0.0"
    inside = folder / "nginx-443"
    (inside / "files").mkdir(parents=True)
    (inside / "files" / "100k").write_bytes(world.random.randbytes(100_000))
    text = BACKEND.format(listen=f"{wide}:443 ssl", name="server", folder=inside, keepalive=65, rate="30k")
    nginx(
        row.server,
        f"ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; {text}",
        port=443,
    )
    world.record()
    plain = Load(world, row.client, row.address, row.port)
    plain.mixed(15, 2)
    load = Load(world, row.client, row.address, 443)
    for number in range(30):
        load.talk("tls", speak(("notify", "notify-reset", "silent")[number % 3]), after=world.random.uniform(0, 2.5))
    time.sleep(4)


def speak(end: str) -> Callable[[Talk], None]:
    """A TLS client that asks twice and ends in this way."""

    def conversation(talk: Talk) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        tls = context.wrap_socket(talk.socket, server_hostname="shop.example", suppress_ragged_eofs=True)
        talk.socket = tls
        for path, least in (("/", 10), ("/files/100k", 100_000)):
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n".encode())
            size = 0
            while size < least:
                size += len(tls.recv(65536))
        time.sleep(0.1)
        if end != "silent":
            tls.setblocking(False)
            try:
                tls.unwrap()  # sends close_notify, and does not wait for the other one
            except (ssl.SSLWantReadError, OSError):
                tls.setblocking(True)
        talk.close(reset=end == "notify-reset")

    return conversation


SCENARIOS = (Scenario(name="healthy-tls", title="TLS that ends with close_notify, FIN or RST", story=story, check=all_well),)
