"""The post: who is listened to, and what a group that was given up is told."""

import pytest

from mimray.train.heartbeat import Beat
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


def beat(group, seconds):
    return Beat(0, 1, 1, "node", seconds, 0.1, "step", group)


def test_a_group_that_was_given_up_neither_begins_nor_lives(mailbox):
    mailbox.admit("00000002")
    mailbox.beat(beat("00000002", 1.0))
    mailbox.beat(beat("00000001", 99.0))
    assert mailbox.begin("00000001", {"step": 0}) == 0
    messages, beats = mailbox.collect()
    assert messages == [] and [b.seconds for b in beats] == [1.0]
    assert mailbox.begin("00000002", {"step": 0}) == 0
    assert mailbox.begin("00000002", {"step": 4}) == 1
    mailbox.beat(beat("00000002", 2.0))
    mailbox.admit("00000003")
    assert mailbox.collect()[1] == []
