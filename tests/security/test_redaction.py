"""Secrets that came into an address, an error or the environment are shown and written nowhere."""

import json
import logging
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from mimray.cli import main
from mimray.errors import UserError
from mimray.recipe import FinetuneRecipe, Recipe, load_finetune_recipe, load_recipe
from mimray.redaction import RedactingFormatter, holds_secret, redact
from mimray.study.sweeps.sweep import Sweep
from mimray.train.record import Record
from mimray.verbs.cluster import status

pytestmark = pytest.mark.unit

CANARY = "c4n4ry-0123456789"
REPOSITORY = Path(__file__).parents[2]


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
        ("s3://key:it's@bucket/x 'a': 'b'", "s3://***@bucket/x 'a': 'b'"),
        ('{"a":"s3://key:x"y@b","c":"d@e"}', '{"a":"s3://***@b","c":"d@e"}'),
        ("authorization: basic allsmall", "authorization: basic ***"),
        ("curl: basic dXNlcjpwdw==", "curl: basic ***"),
        ("s3://key:12345/abc@bucket: gone", "s3://***@bucket: gone"),  # no port
        ("password='correct horse battery'!", "password='***'!"),
        ("{'password': 'it\\'s a \"horse\"', 'a': 1}", "{'password': '***', 'a': 1}"),
        ("MLFLOW_AUTH_ADMIN_PASSWORD=a,b", "MLFLOW_AUTH_ADMIN_PASSWORD=***"),
        ("f(token=a,b, x=1)", "f(token=***, x=1)"),
        ("password: x", "password: ***"),
        ("X-Api-Key: x", "X-Api-Key: ***"),
        ("HF_TOKEN: x", "HF_TOKEN: ***"),
        ("secret = 'x y'", "secret = '***'"),
        ("--password x", "--password ***"),
        ("['run', '--api-key', 'x y', 'z']", "['run', '--api-key', '***', 'z']"),
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
        "http://host:5000/path@v1 compass=north assign=8 s3://bucket:9000/a",
        "basic authentication failed; Bearer Authentication.",
        "size mismatch for cls_token: copying; --class-token keep; a pass: 3 ms",
        "~/.ray/auth_token: No such file",
        "optim.lr=0.1; lower speed.micro_batch=128",
    ],
)
def test_what_is_none(text, monkeypatch):
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert redact(text) == text and not holds_secret(text)


@pytest.mark.parametrize("text", ["a-", "token-", "a:", "://a:", "password='a "])
def test_a_long_line_takes_no_minutes(text):
    start = time.monotonic()
    redact(text * 400)
    assert time.monotonic() - start < 4  # unbounded: 9


def test_what_the_environment_knows(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", CANARY)
    monkeypatch.setenv("HF_TOKEN", CANARY[:10])  # begins the other
    monkeypatch.setenv("DB_PASSWORD", "short")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/user/token")
    assert redact(f"no user of password {CANARY}!") == "no user of password ***!"
    assert redact("short: /home/user/token") == "short: /home/user/token"


ADDRESSES = [
    f"s3://key:{CANARY}@bucket",
    f"s3://key:12345/{CANARY}@bucket",
    f"https://ada:pa'{CANARY}',@mlflow.example.org",
    f"s3://bucket/x?secret_key={CANARY}",
]


def texts(schema):
    """Settings that may be a text: whoever adds one need not think of this test."""
    for section, field in schema.model_fields.items():
        inner = getattr(field.annotation, "model_fields", {})
        yield from (f"{section}.{key}" for key in inner if "str" in str(inner[key].annotation))


SETTINGS = [(load, setting) for load, schema in
            ((load_recipe, Recipe), (load_finetune_recipe, FinetuneRecipe))
            for setting in texts(schema)]  # fmt: skip


def test_the_settings_that_are_tried():
    assert {setting for _, setting in SETTINGS} > {
        *("run.storage", "run.tracking", "run.experiment", "data.train", "data.val", "data.subset"),
        *("model.weights", "target.file", "target.module", "augment.randaugment"),
    }


@pytest.mark.parametrize(("load", "setting"), SETTINGS)
@pytest.mark.parametrize("address", ADDRESSES)
def test_a_recipe_takes_none(load, setting, address):
    recipe = "demo" if load is load_recipe else "finetune_demo"
    with pytest.raises(UserError) as caught:
        load(recipe, [f"{setting}={address}"])
    line = redact(str(caught.value))
    assert line.startswith((f"{setting}: ", f"{setting}=")) and CANARY not in line
    with suppress(UserError):  # some take no address at all
        load(recipe, [f"{setting}=s3://bucket/x"])
        assert line.startswith(f"{setting}: holds a password")


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "given",
    [
        {"recipe": "demo", "grid": {"data.train": ["ADDRESS"]}},
        {"recipe": "demo", "grid": {"mask.unit": [8]}, "set": {"model": {"weights": "ADDRESS"}}},
        {"recipe": "ADDRESS", "grid": {"mask.unit": [8]}},
    ],
)
def test_a_sweep_takes_none(given, address):
    text = json.dumps(given)
    Sweep.model_validate(json.loads(text))
    with pytest.raises(ValueError, match="holds a password"):
        Sweep.model_validate(json.loads(text.replace("ADDRESS", address)))


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize(
    "words",
    [
        "data prepare ADDRESS out",
        "data prepare builtin:photos/train ADDRESS",
        "data subset ADDRESS out --fraction 10%",
        "data clusters ADDRESS --out out",
        "evaluate knn --from ADDRESS --data builtin:photos/train",
        "evaluate linear --from w --data ADDRESS",
        "evaluate linear --from w --data d --val ADDRESS",
        "evaluate suite semantic --from w --from ADDRESS",
        "evaluate suite semantic --from w --sets cars,ADDRESS",
        "analyze cka --from w --from ADDRESS --data d",
        "analyze health --from w --data ADDRESS",
        "analyze layer-drop --from w --data ADDRESS",
        "analyze losses run ADDRESS",
        "reconstruct --from ADDRESS photo.jpg",
        "reconstruct --from run ADDRESS",
        "weights convert ADDRESS --to timm --out out",
        "finetune finetune_demo --from ADDRESS",
        "runs ls --storage ADDRESS",
        "sweep ADDRESS",
        "study report ADDRESS",
    ],
)
def test_the_words_of_verbs_take_none(words, address, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words.replace("ADDRESS", address).split()) == 2
    said = capsys.readouterr()
    assert "***" in said.err and ": holds a password, which would be written" in said.err
    assert CANARY not in said.err + said.out
    assert list(tmp_path.iterdir()) == []


def test_words_that_are_none_are_quoted_without(capsys):
    with pytest.raises(SystemExit):
        main(["data", "inspect", "builtin:photos/train", f"http://user:{CANARY}@host"])
    assert "http://***@host" in (said := capsys.readouterr().err) and CANARY not in said


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_the_words_of_others_jobs(words, monkeypatch, capsys):
    """They may have been submitted by Ray's own command, which refuses nothing."""
    job = {"submission_id": "a", "status": "RUNNING", "driver_exit_code": None}
    job["entrypoint"] = f"HF_TOKEN={CANARY} python x.py s3://key:{CANARY}@bucket"
    server = SimpleNamespace(hosts=lambda: [{"node_ip": "h"}] * 9, jobs=lambda: [job])
    monkeypatch.setattr(status, "answering", lambda file: nullcontext(server))
    assert main(["cluster", "status", str(REPOSITORY / "cluster.yaml"), *words]) == 0
    said = capsys.readouterr().out
    assert "HF_TOKEN=*** python x.py s3://***@bucket" in said and CANARY not in said


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
