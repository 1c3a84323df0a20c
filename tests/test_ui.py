"""`mimray ui` refuses what would open the runs to others; what its server refuses: tests/services."""

import socket

import pytest

from mimray.cli import main
from mimray.verbs import ui

pytestmark = pytest.mark.unit
PASSWORD = "a long enough password"


class Served(BaseException):
    """Instead of becoming MLflow: with what words and environment."""


@pytest.fixture
def serve(tmp_path, monkeypatch):
    """`mimray ui` up to the moment where it would become MLflow."""

    def become(program, words, environment):
        raise Served(words, environment)

    def run(*words):
        with pytest.raises(Served) as caught:
            main(["ui", "--port", "0", *words])
        return caught.value.args

    monkeypatch.setenv("MIMRAY_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ui.os, "execve", become)
    monkeypatch.setattr(ui.os, "umask", lambda mask: masks.append(mask))
    masks = run.masks = []
    return run


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::", "192.0.2.1"])
@pytest.mark.parametrize("password", [None, "short"])
def test_others_do_not_get_in_without_a_password(host, password, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_AUTH_ADMIN_PASSWORD", raising=False)
    if password:
        monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", password)
    assert main(["ui", "--host", host, "--port", "0"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "set MLFLOW_AUTH_ADMIN_PASSWORD" in line and "ssh -L" in line


def test_loopback_needs_none_and_answers_to_its_own_names_only(serve):
    words, environment = serve()
    assert words[words.index("--host") + 1] == "127.0.0.1" and "--app-name" not in words
    names = environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert {"localhost", "127.0.0.1:*", "[[]::1]:*"} <= set(names)
    assert not any(name.startswith(("10.", "192.168", "*")) for name in names)
    assert environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    assert serve.masks == []


def test_an_open_address_asks_everybody_for_a_password(serve, monkeypatch):
    monkeypatch.setenv("MLFLOW_AUTH_ADMIN_PASSWORD", PASSWORD)
    words, environment = serve("--host", "0.0.0.0")
    assert words[words.index("--app-name") + 1] == "basic-auth"
    assert len(environment["MLFLOW_FLASK_SERVER_SECRET_KEY"]) == 64
    name = socket.gethostname()
    assert f"{name}:*" in environment["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert f"http://{name}:0" in environment["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")
    assert serve.masks == [0o077]


def test_a_password_in_the_store_s_address_is_not_among_the_words_of_the_process(serve):
    uri = "postgresql+psycopg://mimray:canary@db/mlflow"
    words, environment = serve("--uri", uri)
    assert not any("canary" in word for word in words)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == uri


def test_wrong_words_are_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, says in (
            (["--port", str(port)], f"try --port {port + 1}"),
            (["--port", "99999"], "ports go from 1 to 65535"),
            (["--host", "host.invalid"], "--host host.invalid: "),
            (["--uri", "http://user:canary@host"], "open it in a browser"),
        ):
            assert main(["ui", *words]) == 2
            (line,) = capsys.readouterr().err.strip().splitlines()
            assert says in line and "canary" not in line
