import threading
import time

import pytest

from features.channel import Channel, Stopped


def test_items_come_in_order_and_end():
    channel = Channel(10)
    for k in range(5):
        channel.put(k)
    channel.end()
    assert list(channel) == list(range(5))
    assert list(channel) == []


def test_no_more_than_its_size_wait():
    channel, most = Channel(3), []

    def fill():
        for k in range(20):
            channel.put(k)
            most.append(len(channel._items))
        channel.end()

    thread = threading.Thread(target=fill)
    thread.start()
    found = []
    for item in channel:
        time.sleep(0.001)
        found.append(item)
    thread.join()
    assert found == list(range(20))
    assert max(most) <= 3


@pytest.mark.parametrize("doing", ["putting", "taking"])
def test_who_waits_is_let_go_when_the_work_is_given_up(doing):
    channel, ended = Channel(1), []
    if doing == "putting":
        channel.put(0)

    def wait():
        try:
            channel.put(1) if doing == "putting" else next(iter(channel))
        except Stopped:
            ended.append(doing)

    thread = threading.Thread(target=wait)
    thread.start()
    channel.stop()
    thread.join(timeout=10)
    assert ended == [doing]


def test_what_one_taker_puts_back_another_takes_even_after_the_end():
    channel = Channel(4)
    channel.put("a")
    channel.put("b")
    channel.end()
    one = iter(channel)
    taken = next(one)
    found = []

    def other():
        is_more = True
        while is_more:
            for item in channel:
                found.append(item)
                channel.settle(1)
            is_more = channel.more()

    thread = threading.Thread(target=other)
    thread.start()
    channel.put_back(taken)  # as a worker that dies does
    thread.join(timeout=10)
    assert sorted(found) == ["a", "b"]
    assert not channel.more()
