"""The lab's own hosts: what a killed test leaves does not keep the next one from its own."""

import pytest

from tests.lab import machines
from tests.lab.machines import Machines, missing

pytestmark = pytest.mark.lab


@pytest.fixture
def beside(monkeypatch):
    """Beside the hosts of the other tests: a bridge and addresses of its own."""
    for name, other in [("_BRIDGE", "mimrest-lab"), ("_LINK", "mimrest-"), ("_NET", "10.88.0")]:
        monkeypatch.setattr(machines, name, other)
    if reason := missing():
        pytest.skip(reason)


def test_leftovers_go_and_hosts_that_are_up_stay(beside, folder):
    left, next_one = Machines(folder / "left", 2), Machines(folder / "next", 1)
    try:
        left.up()
        assert missing() == "other hosts are up"
        with pytest.raises(AssertionError, match="mimrest-h1 is up"):
            next_one.up()
        for name in left.names:
            left.crash(name)  # and its test with it: nobody takes the bridge down
        assert missing() is None
        next_one.up()
        assert next_one.ssh("h1", "hostname").stdout == "h1\n"
        assert machines._spaces() == ["mimrest-h1"]
    finally:
        left.down()
