"""The memory that decoders share."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from headstart.modalities.room import NoRoom, Room


def test_whoever_finds_no_room_is_told_so_after_its_patience_and_whoever_gives_room_back_makes_some() -> None:
    room = Room(100)
    with room.take(60), room.take(40), pytest.raises(NoRoom), room.take(1, patience=0):
        pass
    with room.take(100, patience=0):
        pass


def test_what_needs_more_than_there_is_works_alone() -> None:
    room = Room(100)
    with room.take(1000, patience=0), pytest.raises(NoRoom), room.take(1, patience=0):
        pass
    with room.take(1), pytest.raises(NoRoom), room.take(1000, patience=0):
        pass


def test_room_is_given_back_by_what_fails() -> None:
    room = Room(100)
    with pytest.raises(ValueError, match="broken"), room.take(100):
        raise ValueError("broken")
    with room.take(100, patience=0):
        pass


def test_threads_together_never_hold_more_than_there_is_and_all_come_to_their_turn() -> None:
    room, held, most = Room(100), [], []

    def work(need: int) -> int:
        with room.take(need):
            held.append(need)
            most.append(sum(held))
            held.remove(need)
        return need

    needs = [10, 50, 70, 100, 30] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, needs)) == needs
    assert max(most) <= 100
