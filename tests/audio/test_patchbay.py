"""Which ports rvcd's own belong to, decided from what is seen."""

from __future__ import annotations

import pytest

from rvcd.audio.patchbay import Graph, Side, find, from_document, to_document

MICS = ("system:capture_1", "system:capture_2", "USB Mic:capture_MONO", "player:output_FL")


def graph(*links: tuple[str, str], ports: tuple[str, ...] = MICS, changes: int = 0) -> Graph:
    physical = tuple(port for port in ports if ":capture" in port)
    return Graph(ports, physical, frozenset(links), changes)


def an_input(wanted: str = "default", channel: int = 1) -> Side:
    return Side("input", ("in",), wanted, channel)


def test_the_default_is_the_servers_first_physical_source_and_never_a_player() -> None:
    assert an_input().look(graph()) == (("in", "system:capture_1"),)
    side = an_input()
    assert side.look(graph(ports=("player:output_FL",))) == ()
    assert "no input device" in side.problem


def test_an_input_channel_is_a_port_of_the_device_and_one_too_many_is_said() -> None:
    assert an_input(channel=2).look(graph()) == (("in", "system:capture_2"),)
    side = an_input("usb", channel=2)
    assert side.look(graph()) == () and "input channel 2 does not exist: 'USB Mic' has 1" in side.problem


def test_a_name_that_is_missing_waits_and_is_connected_when_it_comes() -> None:
    side = an_input("usb")
    without = tuple(port for port in MICS if "USB" not in port)
    assert side.look(graph(ports=without)) == () and "is not there" in side.problem
    assert side.look(graph(changes=1)) == (("in", "USB Mic:capture_MONO"),) and side.problem == ""


def test_names_that_fit_twice_or_nearly_are_answered_with_the_choices() -> None:
    ports = ("USB Mic:capture_MONO", "USB Hub:capture_1")
    assert "fits 'USB Mic', 'USB Hub'" in find("input", "usb", ports)[1]
    assert "did you mean 'USB Mic'" in find("input", "usb mik", ports)[1]
    assert find("input", "USB Hub:capture_1", ports) == (["USB Hub:capture_1"], "")
    assert find("input", "duo", ("duo:monitor_FL", "duo:capture_FL"))[0] == ["duo:capture_FL"]


def test_a_device_that_goes_is_said_and_linked_again_when_it_is_back() -> None:
    link = ("in", "USB Mic:capture_MONO")
    side = an_input("usb")
    side.made(side.look(graph()))
    assert side.look(graph(link)) == ()
    assert side.look(graph(changes=1, ports=MICS[:2])) == () and "is gone" in side.problem
    assert side.look(graph(changes=2)) == (link,) and side.problem == ""


@pytest.mark.parametrize("changes", [(2, 2), (0, 2), (0, 1)])
def test_a_device_replaced_under_its_name_between_two_looks_is_linked_again(changes: tuple[int, int]) -> None:
    link = ("in", "USB Mic:capture_MONO")
    side = an_input("usb")
    side.made(side.look(graph()))
    side.look(graph(link))
    assert [*side.look(graph(changes=changes[0])), *side.look(graph(changes=changes[1]))] == [link]
    assert not side.by_hand


def test_what_the_user_takes_away_stays_away_and_what_he_connects_is_remembered() -> None:
    auto, own = ("in", "system:capture_1"), ("in", "player:output_FL")
    side = an_input()
    side.made(side.look(graph()))
    assert side.look(graph(auto)) == ()
    assert side.look(graph(own)) == () and side.look(graph(own)) == () and side.look(graph(own)) == ()
    assert side.by_hand == {own}
    again = an_input()
    again.by_hand = from_document(to_document({"input": side}))["input", "default"]
    assert again.look(graph()) == (own,)


def test_a_side_that_is_not_wanted_is_left_alone() -> None:
    side = an_input("")
    assert side.look(graph()) == () and side.problem == ""


@pytest.mark.parametrize("document", [[], {"input": 3}, {"input": {"links": [["a"]]}}, {"input": {"links": [["a", 3]]}}])
def test_a_memory_of_another_form_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match=r"has|is no"):
        from_document(document)
