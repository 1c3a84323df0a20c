"""No file that comes from elsewhere gets to run code.

Pickles with code in them: tests/weights/test_read.py, tests/mim/test_target_tokens.py,
tests/data/test_collections_refused.py. Members of tars: tests/data/test_webdataset.py.
"""

import ast
from pathlib import Path

import pytest
import yaml

from mimray.cli import main

pytestmark = pytest.mark.unit

REPOSITORY = Path(__file__).parents[2]
SOURCES = [f for part in ("mimray", "jobs") for f in sorted((REPOSITORY / part).rglob("*.py"))]


@pytest.fixture
def tag(tmp_path):
    """YAML that would make a folder, were its objects made."""
    return f"!!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']"


def refused(words, tmp_path, capsys):
    assert main([str(word) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mimray: ") and "!!python" not in line.partition(": ")[0]
    assert not (tmp_path / "ran").exists()
    return line


@pytest.mark.parametrize(
    "words",
    [
        ("recipe", "show"),
        ("pretrain",),
        ("finetune",),
        ("sweep",),
        ("study", "status"),
        ("cluster", "status"),
    ],
    ids=" ".join,
)
def test_objects_in_yaml_are_not_made(words, tag, tmp_path, capsys):
    file = tmp_path / "file.yaml"
    file.write_text(f"mask:\n  ratio: {tag}\n")
    line = refused((*words, file), tmp_path, capsys)
    assert "not " in line and "could not determine a constructor" in line
    yaml.unsafe_load(file.read_text())
    assert (tmp_path / "ran").exists()  # it would have been


def test_objects_in_an_override_are_not_made(tag, tmp_path, capsys):
    line = refused(("recipe", "show", "demo", f"mask.ratio={tag}"), tmp_path, capsys)
    assert "the value is not YAML" in line


def calls(file):
    """(dotted name, names of its keyword arguments, line) of every call in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            yield ast.unparse(node.func), keywords, node.lineno


def faults(file):
    for name, keywords, line in calls(file):
        last = name.rpartition(".")[2]
        unsafe = (
            name in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "yaml.full_load")
            or name.startswith(("pickle.load", "cloudpickle.load", "marshal.load", "joblib.load"))
            or last in ("extractall", "unpack_archive", "get_model")
            or (name == "torch.load" and keywords.get("weights_only") != "True")
            or (name.endswith("np.load") and keywords.get("allow_pickle") == "True")
            or keywords.get("shell") == "True"
            or name in ("os.system", "os.popen")
        )
        if unsafe:
            yield f"{file.relative_to(REPOSITORY)}:{line}: {name}"


def test_nothing_in_the_code_could_run_what_it_reads():
    assert [fault for file in SOURCES for fault in faults(file)] == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(file)",
        "torch.load(file, weights_only=False)",
        "yaml.load(text, yaml.Loader)",
        "pickle.loads(data)",
        "tar.extractall(folder)",
        "checkpoint.get_model()",
        "subprocess.run(words, shell=True)",
    ],
)
def test_what_such_a_line_would_be(line, tmp_path, monkeypatch):
    file = tmp_path / "file.py"
    file.write_text(line)
    monkeypatch.setattr(f"{__name__}.REPOSITORY", tmp_path)
    assert len(list(faults(file))) == 1
    file.write_text("torch.load(file, weights_only=True); yaml.safe_load(text)")
    assert not list(faults(file))
