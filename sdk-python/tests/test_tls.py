"""TLS, mutual TLS and tokens against a real TLS server in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from conftest import eventually
from scripted import WAIT, Scripted, StreamEnd, status_details

import jobwire
from jobwire import App, Client
from jobwire.v1 import job_service_pb2_grpc, worker_service_pb2_grpc


class Site:
    """An authority, a server with its certificate, and the files that a client needs."""

    def __init__(self, directory: Path, *, client_certificates: bool) -> None:
        self.directory = directory
        authority = trustme.CA()
        server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("worker@example.com")
        self.ca = self._write("ca.pem", authority.cert_pem.bytes())
        self.cert = self._write("cert.pem", b"".join(blob.bytes() for blob in client.cert_chain_pems))
        self.key = self._write("key.pem", client.private_key_pem.bytes())
        self.scripted = Scripted()  # its plaintext port stays unused
        credentials = grpc.ssl_server_credentials(
            [(server.private_key_pem.bytes(), b"".join(blob.bytes() for blob in server.cert_chain_pems))],
            authority.cert_pem.bytes() if client_certificates else None,
            client_certificates,
        )
        self.server = grpc.server(futures.ThreadPoolExecutor(16))
        add: Any = worker_service_pb2_grpc
        add.add_WorkerServiceServicer_to_server(self.scripted, self.server)
        add = job_service_pb2_grpc
        add.add_JobServiceServicer_to_server(self.scripted, self.server)
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.server.start()
        self.url = f"jobwires://127.0.0.1:{self.port}"

    def _write(self, name: str, content: bytes) -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def stop(self) -> None:
        for stream in self.scripted.opened:
            stream.end()
        self.server.stop(None).wait(WAIT)
        self.scripted.stop()


Make = Callable[..., Site]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Make]:
    sites: list[Site] = []

    def make(**options: Any) -> Site:
        sites.append(Site(tmp_path, **options))
        return sites[-1]

    yield make
    for made in sites:
        made.stop()


def test_a_certificate_of_ones_own_authority(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = site(client_certificates=False)
    monkeypatch.setenv("JOBWIRE_URL", tls.url)
    monkeypatch.setenv("JOBWIRE_CA_FILE", tls.ca)
    with Client() as client:
        assert client.enqueue("t").id
    with Client(ca_file=tls.ca) as client:
        assert client.enqueue("t").id


def test_a_server_that_is_not_trusted_is_not_spoken_to(site: Make) -> None:
    tls = site(client_certificates=False)
    with Client(tls.url, timeout="500ms", token="secret") as client, pytest.raises(jobwire.Unavailable) as caught:
        client.enqueue("t")
    assert "does not agree on TLS" in str(caught.value)
    assert tls.scripted.metadata == []


def test_plaintext_to_a_tls_port_and_tls_to_a_plaintext_port_fail(site: Make) -> None:
    tls = site(client_certificates=False)
    for url in (f"jobwire://127.0.0.1:{tls.port}", f"jobwires://127.0.0.1:{tls.scripted.port}"):
        with Client(url, ca_file=tls.ca, timeout="500ms") as client, pytest.raises(jobwire.Unavailable):
            client.enqueue("t")


def test_a_client_shows_its_certificate(site: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = site(client_certificates=True)
    with Client(tls.url, ca_file=tls.ca, timeout="500ms") as client, pytest.raises(jobwire.Unavailable):
        client.enqueue("t")
    for name, value in (("URL", tls.url), ("CA_FILE", tls.ca), ("CERT_FILE", tls.cert), ("KEY_FILE", tls.key)):
        monkeypatch.setenv(f"JOBWIRE_{name}", value)
    app = App()
    app.task("t")(lambda: 7)
    worker = app.worker(concurrency=1)
    worker.start()
    try:
        stream = tls.scripted.stream()
        stream.welcome()
        stream.job("a", "t")
        assert stream.outcome("a").succeeded.result.text == "7"
        assert app.enqueue("t").id
    finally:
        worker.stop(0, wait=False)
        worker.stop(0, wait=False)
        app.close()


def test_renewed_certificates_are_read_when_a_new_connection_is_made(site: Make, tmp_path: Path) -> None:
    tls = site(client_certificates=True)
    good = Path(tls.cert).read_bytes()
    stranger = trustme.CA().issue_cert("worker@example.com")
    files: dict[str, Any] = {"cert_file": tls.cert, "key_file": tls.key}
    key = Path(tls.key).read_bytes()
    Path(tls.cert).write_bytes(b"".join(blob.bytes() for blob in stranger.cert_chain_pems))
    Path(tls.key).write_bytes(stranger.private_key_pem.bytes())
    with Client(tls.url, ca_file=tls.ca, timeout="500ms", **files) as client:
        with pytest.raises(jobwire.Unavailable):
            client.enqueue("t")
        client.close()
        Path(tls.cert).write_bytes(good)
        Path(tls.key).write_bytes(key)
        assert client.enqueue("t").id


@pytest.mark.parametrize("name", ["ca_file", "cert_file", "key_file", "token_file"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    missing = str(tmp_path / "missing.pem")
    options: dict[str, Any] = {name: missing}
    for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if name == one:
            options[other] = __file__
    with Client("jobwires://127.0.0.1:1", **options) as client, pytest.raises(jobwire.InvalidArgument) as caught:
        client.enqueue("t")
    assert caught.value.field == name
    assert "missing.pem" in str(caught.value)


def test_a_certificate_without_its_key_is_refused(tmp_path: Path) -> None:
    with (
        Client("jobwires://127.0.0.1:1", cert_file="a.pem") as client,
        pytest.raises(jobwire.InvalidArgument) as caught,
    ):
        client.enqueue("t")
    assert caught.value.field == "key_file"


def test_a_worker_without_its_files_stops_at_once(tmp_path: Path) -> None:
    app = App("jobwires://127.0.0.1:1", ca_file=str(tmp_path / "missing.pem"))
    app.task("t")(lambda: None)
    with pytest.raises(jobwire.InvalidArgument, match="missing"):
        app.worker().run()


def test_a_worker_reads_its_token_again_when_it_is_refused(site: Make, tmp_path: Path) -> None:
    tls = site(client_certificates=False)
    token = tmp_path / "token"
    token.write_text("old\n")
    app = App(tls.url, ca_file=tls.ca, token_file=str(token))
    app.task("t")(lambda: None)
    worker = app.worker(concurrency=1)
    worker.start()
    try:
        first = tls.scripted.stream()
        token.write_text("new\n")
        first.end(StreamEnd(grpc.StatusCode.UNAUTHENTICATED, "expired", status_details("TOKEN_EXPIRED")))
        tls.scripted.stream().welcome()
        assert worker.wait_ready(WAIT)
        seen = [metadata["authorization"] for metadata in tls.scripted.metadata]
        assert seen == ["Bearer old", "Bearer new"]
    finally:
        worker.stop(0, wait=False)
        worker.stop(0, wait=False)
        app.close()


def test_a_token_is_never_logged_or_shown(
    site: Make, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = site(client_certificates=False)
    monkeypatch.setenv("JOBWIRE_TOKEN", "secret-token")

    def refused(request: Any) -> Any:
        raise StreamEnd(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong", status_details("TOKEN_INVALID"))

    tls.scripted.answers["Enqueue"] = refused
    with caplog.at_level(logging.DEBUG), Client(tls.url, ca_file=tls.ca) as client:
        with pytest.raises(jobwire.Unauthenticated) as caught:
            client.enqueue("t")
        shown = f"{caught.value!r} {caught.value} {client!r} {client._connection()!r} {caplog.text}"
    assert tls.scripted.metadata[0]["authorization"] == "Bearer secret-token"
    assert "secret-token" not in shown


def test_the_next_endpoint_takes_over_with_tls(site: Make) -> None:
    tls = site(client_certificates=False)
    app = App(f"jobwires://127.0.0.1:1,{tls.url}", ca_file=tls.ca)
    app.task("t")(lambda: None)
    worker = app.worker(concurrency=1)
    worker.start()
    try:
        tls.scripted.stream().welcome()
        assert worker.wait_ready(WAIT)
        eventually(lambda: app.enqueue("t").id)
    finally:
        worker.stop(0, wait=False)
        worker.stop(0, wait=False)
        app.close()
