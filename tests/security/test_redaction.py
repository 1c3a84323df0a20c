"""Secrets that came into an address, an error or the environment are shown and written nowhere."""

import logging
from types import SimpleNamespace

import pytest

from mimray.cli import main
from mimray.errors import UserError
from mimray.recipe import load_recipe
from mimray.redaction import RedactingFormatter, holds_secret, redact
from mimray.train.record import Record

pytestmark = pytest.mark.unit

CANARY = "c4n4ry-0123456789"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"s3://key:{CANARY}@bucket/runs: gone", "s3://***@bucket/runs: gone"),
        (f"http://user:{CANARY}@host:5000/x", "http://***@host:5000/x"),
        (f"http://user:a@{CANARY}@host/", "http://***@host/"),
        (f"s3://AKIA:ab/cd?#{CANARY}@bucket/runs", "s3://***@bucket/runs"),
        (f"postgresql://mlflow:pa/{CANARY}@db/mlflow", "postgresql://***@db/mlflow"),
        (f"https://{CANARY}@host/pictures", "https://***@host/pictures"),
        (f"az://b/p?sv=1&sig={CANARY}", "az://b/p?sv=1&sig=***"),
        (f"AccountKey={CANARY};x", "AccountKey=***;x"),
        (f"DB_PASS={CANARY} ssh_passphrase={CANARY}", "DB_PASS=*** ssh_passphrase=***"),
        (f"s3://b/p?access_key={CANARY}&region=eu", "s3://b/p?access_key=***&region=eu"),
        (f"s3://b/p?region=eu&session_token={CANARY}", "s3://b/p?region=eu&session_token=***"),
        (f"https://h/p?X-Amz-Signature={CANARY}", "https://h/p?X-Amz-Signature=***"),
        (f"AWS_SECRET_ACCESS_KEY={CANARY}; go", "AWS_SECRET_ACCESS_KEY=***; go"),
        (f"{{'password': '{CANARY}'}}", "{'password': '***'}"),
        (f'{{"auth_token": "{CANARY}"}}', '{"auth_token": "***"}'),
        (f"Authorization: Bearer {CANARY}", "Authorization: Bearer ***"),
    ],
)
def test_what_is_named_like_a_secret(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/runs?region=eu-west-1&endpoint_override=http://127.0.0.1:9000",
        "http://user@host/mail: user@host.org: no such file",
        "target.kind=tokens target.file=tokenizer.pt head.mask_tokens=3",
        "token     asked for on 2 host(s)",
        "http://host:5000/path@v1 compass=north assign=8 s3://bucket:9000/a@b",
        "optim.lr=0.1; lower speed.micro_batch=128",
    ],
)
def test_what_is_none(text, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert redact(text) == text and not holds_secret(text)


def test_what_the_environment_knows(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    monkeypatch.setenv("HF_TOKEN", CANARY[:10])  # begins the other
    monkeypatch.setenv("DB_PASSWORD", "short")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/user/token")
    assert redact(f"no user of password {CANARY}!") == "no user of password ***!"
    assert redact("short: /home/user/token") == "short: /home/user/token"


@pytest.mark.parametrize(
    "setting", ["run.tracking", "run.storage", "data.train", "data.val", "data.subset"]
)
@pytest.mark.parametrize(
    "address",
    [
        f"s3://key:{CANARY}@bucket",
        f"s3://key:ab/{CANARY}@bucket",
        f"s3://bucket/x?secret_key={CANARY}",
    ],
)
def test_a_recipe_takes_none(setting, address):
    with pytest.raises(UserError, match=f"^{setting}: holds a password") as caught:
        load_recipe("demo", [f"{setting}={address}"])
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("value", [f"http://user:{CANARY}@host", f"'api_key={CANARY}'"])
def test_an_error_that_quotes_the_value(value, capsys):
    """A setting that is no address: the line shows what was given for it."""
    assert main(["recipe", "show", "demo", f"mask.ratio={value}"]) == 2
    said = capsys.readouterr()
    assert "mask.ratio=" in said.err and "***" in said.err
    assert CANARY not in said.err + said.out


def test_a_record_keeps_none(monkeypatch):
    written = []
    record = Record.__new__(Record)
    record.run = SimpleNamespace(write_record=lambda it: written.append(dict(it)))
    record.update(events=[])
    record.save(status="failed", error=f"s3://key:{CANARY}@bucket cannot be written")
    record.note_event("trainers lost", why=f"http://h/?token={CANARY}")
    assert written[-1]["error"] == "s3://***@bucket cannot be written"
    assert written[-1]["events"][0]["why"] == "http://h/?token=***"


def test_logs_show_none(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    try:
        raise ValueError(f"signed with {CANARY}")
    except ValueError as error:
        parts = ("mimray", logging.WARNING, __file__, 1, "MLflow at %s", (f"http://u:{CANARY}@h",))
        record = logging.LogRecord(*parts, exc_info=(type(error), error, error.__traceback__))
    shown = RedactingFormatter("%(message)s").format(record)
    assert "MLflow at http://***@h" in shown and "signed with ***" in shown
    assert CANARY not in shown
