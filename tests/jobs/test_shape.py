"""jobs/: one file a job, all of one shape, each with the words of its verb."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

import mimray.cli

pytestmark = pytest.mark.unit
JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.py"))


@pytest.fixture(params=JOBS, ids=lambda file: file.stem)
def job(request) -> Path:
    return request.param


def verb(file: Path) -> list[str]:
    """What a job puts before its own words."""
    (call,) = re.findall(r"sys\.exit\(main\(\[(.+), \*sys\.argv\[1:\]\]\)\)", file.read_text())
    return list(ast.literal_eval(f"[{call}]"))


def test_what_a_cluster_is_for_has_a_job():
    names = {file.stem for file in JOBS}
    assert {"pretrain", "finetune", "evaluate", "analyze", "prepare", "clusters"} <= names
    assert {"sweep", "scaling_study"} <= names


def test_all_have_the_same_shape(job):
    """But for the docstring and the verb, byte for byte."""

    def shape(file: Path) -> str:
        text = file.read_text()
        doc = ast.get_docstring(ast.parse(text), clean=False)
        words = ", ".join(f'"{word}"' for word in verb(file))
        return text.replace(f'"""{doc}"""', "DOC").replace(words, "VERB")

    assert shape(job) == shape(JOBS[0])


def test_the_docstring_tells_how_it_is_submitted_and_what_it_is(job):
    doc = ast.get_docstring(ast.parse(job.read_text()))
    first, blank, *rest = doc.splitlines()
    assert first.startswith(f"`ray job submit --working-dir . -- python jobs/{job.name} ")
    assert blank == "" and first.endswith("`")
    text = " ".join(rest)
    assert text.startswith(f"The same words as `mimray {' '.join(verb(job))}`, ")
    assert "cluster that the job was submitted to" in text
    assert "The driver's exit status is the verb's" in text


def test_it_is_the_verb_with_the_same_words(job, monkeypatch):
    heard = []
    monkeypatch.setattr(mimray.cli, "main", lambda words: heard.append(words) or 75)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [str(job), "a", "--b", "c.d=1"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(job), run_name="__main__")
    assert heard == [[*verb(job), "a", "--b", "c.d=1"]]
    assert ended.value.code == 75


def test_help_is_the_verbs(job, monkeypatch, capsys):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [str(job), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(job), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: mimray {' '.join(verb(job))} " in capsys.readouterr().out


def test_the_uploaded_code_wins_over_an_installed_one(job, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    runpy.run_path(str(job), run_name="looked at")
    assert sys.path[0] == str(job.parents[1])
