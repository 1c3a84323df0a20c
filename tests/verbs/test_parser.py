"""Misspelt words of the command line: one line, exit 2."""

import pytest

from mimray.cli import main

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["analyse"], "mimray: VERB: no 'analyse'; did you mean analyze?; see mimray --help"),
        (["analyze", "attntion"], "mimray analyze: KIND: no 'attntion'; did you mean attention?"),
        (["pretrain"], "mimray pretrain: the following arguments are required: RECIPE; see"),
        (["data", "subset", "a", "b", "--fraction", "x"], "--fraction: 'x' is not a share"),
        (["recipe", "list", "--al"], "unrecognized arguments: --al"),
    ],
)
def test_a_misspelt_word(words, says, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert says in line and not out
