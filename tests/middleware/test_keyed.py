import pytest

from apiclient.middleware._keyed import Keyed


class Value:
    def __init__(self) -> None:
        self.busy = False


def test_the_same_key_gives_the_same_value() -> None:
    """State under a key stays while it is used."""
    keyed: Keyed[str, Value] = Keyed(Value)
    assert keyed.get("a", 0.0) is keyed.get("a", 1.0)
    assert keyed.get("a", 0.0) is not keyed.get("b", 0.0)


def test_the_number_of_keys_is_bounded() -> None:
    """Law 14: memory does not grow with the number of keys seen."""
    keyed: Keyed[int, Value] = Keyed(Value, capacity=10)
    for number in range(1000):
        keyed.get(number, float(number))
    assert len(keyed) == 10
    assert 999 in keyed


def test_a_busy_value_is_never_forgotten() -> None:
    """Live state survives any pressure."""
    keyed: Keyed[int, Value] = Keyed(Value, capacity=3)
    kept = keyed.get(-1, 0.0)
    kept.busy = True
    for number in range(100):
        keyed.get(number, 1000.0 * number)
    assert keyed.peek(-1) is kept
    assert len(keyed) <= 4


def test_idle_keys_are_forgotten_with_time() -> None:
    """A burst of keys does not stay: what has not been used for `idle` seconds goes."""
    keyed: Keyed[int, Value] = Keyed(Value, capacity=100_000, idle=60.0)
    for number in range(10_000):
        keyed.get(number, 0.0)
    keyed.get(0, 61.0)
    keyed.get(0, 122.0)
    assert len(keyed) == 1


def test_the_least_recently_used_goes_first() -> None:
    """Use protects a key."""
    keyed: Keyed[str, Value] = Keyed(Value, capacity=2)
    keyed.get("a", 0.0)
    keyed.get("b", 1.0)
    keyed.get("a", 2.0)
    keyed.get("c", 3.0)
    assert [key for key, _ in keyed.items()] == ["a", "c"]
    assert keyed.pop("a") is not None
    assert keyed.pop("a") is None


def keys(keyed: Keyed[str, Value]) -> list[str]:
    return [key for key, _ in keyed.items()]


def test_one_key_may_be_all_there_is_room_for() -> None:
    """The least capacity keeps the newest; any time above 0 may be idle."""
    keyed: Keyed[str, Value] = Keyed(Value, capacity=1, idle=0.5)
    keyed.get("a", 0.0)
    keyed.get("b", 0.0)
    assert keys(keyed) == ["b"]


def test_a_key_that_is_looked_at_or_not_there_is_not_used() -> None:
    """Peeking makes nothing, and postpones nothing."""
    keyed: Keyed[str, Value] = Keyed(Value, idle=40.0)
    assert keyed.peek("a") is None
    first = keyed.get("a", 0.0)
    keyed.get("b", 1.0)
    assert keyed.peek("a") is first
    assert keys(keyed) == ["a", "b"]
    keyed.get("b", 40.0)
    assert keys(keyed) == ["b"]
    last = keyed.peek("b")
    assert keyed.pop("b") is last
    assert keyed.peek("b") is None


def test_a_sweep_comes_every_quarter_of_the_idle_time() -> None:
    """On the use of a known key: not before the quarter is over, and at that moment."""
    keyed: Keyed[str, Value] = Keyed(Value, idle=40.0)
    keyed.get("used", 0.0)
    for number in range(6):
        keyed.get(f"idle {number}", 14.0)
    keyed.get("used", 45.0)  # Sweeps; the next comes at 55.
    keyed.get("used", 54.9)
    assert len(keyed) == 7
    keyed.get("used", 55.0)
    assert keys(keyed) == ["used"]


def test_an_insertion_looks_at_the_four_oldest_only() -> None:
    """Between sweeps a new key costs a bounded time, however many have gone idle."""
    keyed: Keyed[str, Value] = Keyed(Value, idle=40.0)
    for number in range(8):
        keyed.get(f"idle {number}", 10.0)
    keyed.get("used", 45.0)  # Sweeps; the next comes at 55.
    keyed.get("new", 52.0)
    assert keys(keyed) == ["idle 4", "idle 5", "idle 6", "idle 7", "used", "new"]
    keyed.get("used", 55.0)
    assert keys(keyed) == ["new", "used"]


def test_busy_keys_are_passed_over_but_never_the_newest_for_them() -> None:
    """Over capacity the oldest that is not busy goes, and what was just made stays even if nothing else may go."""
    keyed: Keyed[str, Value] = Keyed(Value, capacity=2)
    for name in ("a", "b"):
        keyed.get(name, 0.0).busy = True
    keyed.get("c", 1000.0)  # Sweeps.
    assert "c" in keyed
    keyed.get("d", 1000.0)
    assert sorted(keys(keyed)) == ["a", "b", "d"]


def test_a_value_that_cannot_be_busy_is_forgotten_like_any_other() -> None:
    """The attribute is not asked of every kind of value."""
    keyed: Keyed[int, object] = Keyed(object, capacity=1)
    for number in range(3):
        keyed.get(number, 0.0)
    assert [key for key, _ in keyed.items()] == [2]


@pytest.mark.parametrize(("options", "message"), [({"capacity": 0}, "capacity.*0"), ({"idle": 0}, "idle.*0")])
def test_wrong_options_are_named(options: dict[str, float], message: str) -> None:
    """A wrong option fails in the constructor and names option and value."""
    with pytest.raises(ValueError, match=message):
        Keyed(Value, **options)  # type: ignore[arg-type]


def test_repr_tells_the_fill() -> None:
    """The repr is the first thing a person sees."""
    keyed: Keyed[str, Value] = Keyed(Value)
    assert repr(keyed) == "Keyed(0 of 1024, idle=600)"
    keyed.get("a", 0.0)
    assert repr(keyed) == "Keyed(1 of 1024, idle=600)"
