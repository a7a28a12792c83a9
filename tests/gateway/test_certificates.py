"""HTTPS: certificates that are replaced while the server runs."""

import logging
import shutil
import socket
import ssl
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync
from httpx import AsyncClient
from starlette.responses import PlainTextResponse

from envhub.contracts.access import Access, TlsFiles
from envhub.errors import UsageError
from envhub.http_server import listen, serve
from envhub.http_server.certificates import Certificates
from tests.feed.certificates import Authority, openssl

pytestmark = pytest.mark.anyio

hello = PlainTextResponse("hello")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> TlsFiles:
    put(authority, "first", tmp_path)
    return TlsFiles(str(tmp_path / "live.pem"), str(tmp_path / "live.key"))


def put(authority: Authority, name: str, folder: Path) -> None:
    """Has the live files be those of that name, as one who rotates them would: key and certificate, one by one."""
    certificate, key = authority.files(name)
    for source, live in ((key, "live.key"), (certificate, "live.pem")):
        shutil.copy(source, folder / "new")
        (folder / "new").replace(folder / live)


def shown(url: str, authority: Authority, name: str = "127.0.0.1") -> str:
    """Whom the server's certificate names."""
    context = ssl.create_default_context(cafile=authority.file)
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    with socket.create_connection(address, timeout=20) as tcp, context.wrap_socket(tcp, server_hostname=name) as tls:
        subject = tls.getpeercert()["subject"]
    return subject[0][0][1]


async def test_new_certificates_are_shown_without_a_restart_and_open_connections_stay(authority, files, tmp_path):
    with listen(access=Access(tls=files)) as listener:
        context = ssl.create_default_context(cafile=authority.file)
        async with serve(hello, listener) as url, AsyncClient(verify=context) as http:
            assert url.startswith("https://127.0.0.1:")
            assert (await http.get(url)).text == "hello"
            assert await run_sync(shown, url, authority) == "first"
            put(authority, "second", tmp_path)
            assert await run_sync(shown, url, authority) == "second"
            assert (await http.get(url)).text == "hello"


async def test_files_that_do_not_fit_each_other_leave_the_old_certificate_in_use(authority, files, tmp_path, caplog):
    with listen(access=Access(tls=files)) as listener:
        async with serve(hello, listener) as url:
            _, other_key = authority.files("second")
            shutil.copy(other_key, files.private_key)
            with caplog.at_level(logging.WARNING):
                for _ in range(3):
                    assert await run_sync(shown, url, authority) == "first"
            assert [record.message.count("the certificate stays as it was") for record in caplog.records] == [1]
            await anyio.Path(files.certificate).unlink()
            assert await run_sync(shown, url, authority) == "first"
            shutil.copy(tmp_path / "second.pem", files.certificate)
            assert await run_sync(shown, url, authority) == "second"


async def test_plain_http_gets_no_answer_where_tls_is_spoken(files):
    with listen(access=Access(tls=files)) as listener:
        async with serve(hello, listener) as url, AsyncClient() as http:
            with pytest.raises(Exception, match=r"disconnected|reset|closed"):
                await http.get(url.replace("https", "http"))


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(authority, tmp_path):
    certificate, key = authority.files("server")
    encrypted = tmp_path / "encrypted.key"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:secret", "-out", encrypted)
    with pytest.raises(UsageError, match="without a passphrase"):
        Certificates(TlsFiles(str(certificate), str(encrypted)))


def test_private_keys_are_not_shown(authority):
    certificate, key = authority.files("server")
    assert "PRIVATE" not in repr(Certificates(TlsFiles(str(certificate), str(key))).pem)
