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


@pytest.mark.parametrize(("options", "message"), [({"capacity": 0}, "capacity.*0"), ({"idle": 0}, "idle.*0")])
def test_wrong_options_are_named(options: dict[str, float], message: str) -> None:
    """A wrong option fails in the constructor and names option and value."""
    with pytest.raises(ValueError, match=message):
        Keyed(Value, **options)  # type: ignore[arg-type]


def test_repr_tells_the_fill() -> None:
    """The repr is the first thing a person sees."""
    assert repr(Keyed(Value, capacity=5)) == "Keyed(0 of 5, idle=600)"
