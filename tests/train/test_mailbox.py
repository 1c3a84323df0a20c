"""The post: who is listened to, and what a group that was given up is told."""

import pytest

from mimray.train.mailbox import Mailbox

pytestmark = pytest.mark.unit


@pytest.fixture
def mailbox():
    plain = Mailbox.__ray_metadata__.modified_class  # the class itself: no Ray is needed
    return plain(0)


def test_messages_of_a_group_that_was_given_up_are_not_taken(mailbox):
    mailbox.admit("00000001")
    assert mailbox.push("00000001", [{"kind": "row", "row": {"step": 1}}]) is False
    mailbox.admit("00000002")
    assert mailbox.push("00000001", [{"kind": "failed", "error": "taken over"}]) is True
    assert not mailbox.has_failed()
    assert mailbox.push("00000002", [{"kind": "row", "row": {"step": 2}}]) is False
    assert [message["row"]["step"] for message in mailbox.take()] == [1, 2]


def test_a_request_to_stop_reaches_the_group_and_can_be_withdrawn(mailbox):
    mailbox.admit("00000001")
    mailbox.request_stop()
    assert mailbox.push("00000001", []) is True
    mailbox.request_stop(False)
    assert mailbox.push("00000001", []) is False
