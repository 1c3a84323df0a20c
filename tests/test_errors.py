import pytest
import ray.exceptions

from mimray.errors import RunFailed, UserError, own_words

pytestmark = pytest.mark.unit

SAID = "a.jpg: cannot be read any more: gone"


def wrapped(error):
    return ray.exceptions.RayTaskError(
        "f", f"trace\n{type(error).__module__}.{type(error).__name__}: {error}", error
    )


@pytest.mark.parametrize(
    "error",
    [
        RunFailed(SAID),
        RunFailed(f"{SAID}\nTo change retry attempts, configure this"),
        wrapped(RunFailed(SAID)),
        wrapped(wrapped(RunFailed(f"{SAID}\nadvice"))),
        RunFailed(
            f"Caught RunFailed in DataLoader worker.\ntrace\nmimray.errors.RunFailed: {SAID}\n"
        ),
        RuntimeError(f"a trace\nmimray.errors.RunFailed: {SAID}\nadvice"),
        UserError(SAID),
    ],
)
def test_our_own_words_are_found(error):
    assert own_words(error) == SAID


@pytest.mark.parametrize("error", [ValueError("no"), wrapped(ValueError("no")), RuntimeError()])
def test_others_are_not_ours(error):
    assert own_words(error) is None
