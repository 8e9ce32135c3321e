# No `from __future__ import annotations`: annotations here are objects, as in most user code.
import functools
import gc
import sys
import textwrap
import types
import typing
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from onward.core.values import PLAIN, codec_for, codec_of
from onward.errors import ResultError
from tests.core.value_cases import (
    NOW,
    RECEIPT,
    TRIP,
    WHERE,
    Box,
    Color,
    Receipt,
    Trip,
    error_of,
    round_trip,
)

# --- from a body to its codec -------------------------------------------------------------------


def untyped(): ...  # type: ignore[no-untyped-def]


def only_parameters(n: int): ...  # type: ignore[no-untyped-def]


def typed() -> Receipt:
    return RECEIPT


async def coroutine() -> Receipt:
    return RECEIPT


def returns_awaitable() -> Awaitable[Receipt]:
    return coroutine()


def returns_any_awaitable() -> Awaitable: ...  # type: ignore[type-arg, empty-body]


def returns_bare_coroutine() -> typing.Coroutine: ...  # type: ignore[type-arg, empty-body]


def returns_coroutine() -> Coroutine[Any, Any, Receipt]:
    return coroutine()


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


class Service:
    def method(self) -> Receipt:
        return RECEIPT

    @classmethod
    def of_class(cls) -> Receipt:
        return RECEIPT

    @staticmethod
    def static() -> Receipt:
        return RECEIPT

    async def later(self) -> Receipt:
        return RECEIPT

    def __call__(self) -> Receipt:
        return RECEIPT


@pytest.mark.parametrize(
    "body",
    [
        typed,
        coroutine,
        returns_awaitable,
        returns_coroutine,
        decorated(typed),
        functools.partial(typed),
        functools.partial(functools.partial(coroutine)),
        functools.partial(Service().method),
        functools.lru_cache(typed),
        Service().method,
        Service().later,
        Service.of_class,
        Service().of_class,
        Service.static,
        Service.method,
        Service(),
        Receipt,
        functools.partial(Receipt, items=[]),
    ],
)
def test_the_codec_of_a_body(body: Any) -> None:
    codec = codec_of(body)
    assert codec is codec_of(body)
    assert round_trip(codec, RECEIPT) == RECEIPT
    assert "cannot be rebuilt" in error_of(codec, 3)


@pytest.mark.parametrize(
    "body",
    [
        untyped,
        only_parameters,
        lambda: None,
        functools.partial(untyped),
        decorated(untyped),
        len,
        [].append,
        functools.partial(max, 1),
        returns_any_awaitable,
        returns_bare_coroutine,
        "x".upper,
    ],
)
def test_bodies_that_do_not_say_what_they_return(body: Any) -> None:
    assert codec_of(body) is PLAIN


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (dict, {"a": 1}),
        (str, "x"),
        (list[int], [1]),
        (Box[datetime], Box[datetime](content=NOW)),
        (Trip, TRIP),
        (Color, Color.RED),
        (Decimal, Decimal(1)),
        (set, {1}),
    ],
)
def test_a_class_stands_for_itself(body: Any, value: Any) -> None:
    assert round_trip(codec_of(body), value) == value


def test_self_is_the_class_of_the_object() -> None:
    class Base(BaseModel):
        n: int

        def copied(self) -> typing.Self:
            return self.model_copy()

        @classmethod
        def made(cls) -> typing.Self:
            return cls(n=1)

    class Derived(Base):
        more: int = 2

    base, derived = Base(n=1), Derived(n=1)
    assert round_trip(codec_of(base.copied), base.copied()) == base
    assert round_trip(codec_of(derived.copied), derived.copied()) == derived
    assert round_trip(codec_of(Derived.made), derived) == derived


def test_equal_annotations_share_a_codec() -> None:
    def one() -> dict[int, Receipt]: ...  # type: ignore[empty-body]

    def two() -> dict[int, Receipt]: ...  # type: ignore[empty-body]

    assert codec_of(one) is codec_of(two)
    assert codec_for(int | Decimal | str) is not codec_for(str | Decimal | int)


def test_a_codec_does_not_keep_its_function() -> None:
    def make() -> Callable[[], int]:
        def body() -> int:
            return 1

        return body

    body = make()
    codec_of(body)
    gone = weakref.ref(body)
    del body
    gc.collect()
    assert gone() is None


# --- annotations as text ------------------------------------------------------------------------


def module_of(source: str, **names: Any) -> types.ModuleType:
    """A module of user code; `names` are its globals from the start."""
    module = types.ModuleType("orders")
    vars(module).update(names)
    exec(compile(textwrap.dedent(source), "orders.py", "exec", dont_inherit=True), vars(module))
    return module


FUTURE = "from __future__ import annotations\n"
#: Python 3.14 evaluates annotations late without any of this; before, text is needed.
QUOTED = sys.version_info < (3, 14)


def test_annotations_of_the_future_import() -> None:
    module = module_of(
        FUTURE
        + textwrap.dedent("""
            import functools
            async def body(n: Missing) -> Receipt | None: ...
            class Service:
                def method(self) -> list[Later]: ...
                def __call__(self) -> Later: ...
            def wrapped(function):
                @functools.wraps(function)
                def wrapper(*args): ...
                return wrapper
            class Later(BaseModel):
                n: int
        """),
        Receipt=Receipt,
        BaseModel=BaseModel,
    )
    later = module.Later(n=1)
    for codec in (codec_of(module.body), codec_of(functools.partial(module.body, 1))):
        assert round_trip(codec, RECEIPT) == RECEIPT
        assert round_trip(codec, None) is None
    assert round_trip(codec_of(module.Service().method), [later]) == [later]
    assert round_trip(codec_of(module.Service()), later) == later
    # The decorator lives in this module, the types in the other.
    assert round_trip(codec_of(decorated(module.body)), RECEIPT) == RECEIPT
    assert round_trip(codec_of(module.wrapped(typed)), RECEIPT) == RECEIPT


@pytest.mark.parametrize("annotation", ['"Later"', 'list["Later"]', '"list[Later]"', "Later"])
def test_forward_references(annotation: str) -> None:
    if annotation == "Later" and QUOTED:
        annotation = '"Later"'
    module = module_of(
        f"""
        def body(n: "Missing" = None) -> {annotation}: ...
        class Later(BaseModel):
            n: int
        """,
        BaseModel=BaseModel,
    )
    value = module.Later(n=1)
    value = [value] if "list" in annotation else value
    assert round_trip(codec_of(module.body), value) == value


def test_a_local_type_that_the_body_uses() -> None:
    module = module_of(
        FUTURE
        + textwrap.dedent("""
            def make():
                class Local(BaseModel):
                    n: int
                def body() -> Local:
                    return Local(n=1)
                return body
        """),
        BaseModel=BaseModel,
    )
    body = module.make()
    assert round_trip(codec_of(body), body()) == body()


UNRESOLVABLE = """
def body() -> "Missing": ...
def nested() -> "dict[str, Missing]": ...
def attribute() -> "typing.Missing": ...
def syntax() -> "1 +": ...
"""


@pytest.mark.parametrize("name", ["body", "nested", "attribute", "syntax"])
@pytest.mark.parametrize("prefix", ["", FUTURE])
def test_an_annotation_that_cannot_be_resolved(name: str, prefix: str) -> None:
    source = UNRESOLVABLE
    if prefix:
        source = prefix + source.replace('def syntax() -> "1 +"', "def syntax() -> '1 +'")
    body = vars(module_of(source, typing=typing))[name]
    codec = codec_of(body)
    message = error_of(codec, 1)
    assert f"of orders.{name} cannot be resolved" in message
    assert "Import or define the type at module level, outside `if TYPE_CHECKING:`" in message
    written = {"syntax": "1 +", "nested": "dict[str, Missing]"}.get(name, "Missing")
    assert written in message
    with pytest.raises(ResultError, match="cannot be resolved"):
        codec.load(1, WHERE)
    with pytest.raises(ResultError, match="cannot be resolved"):
        codec.prepare(WHERE)


def test_a_name_that_is_defined_later_is_found_later() -> None:
    module = module_of('def body() -> "Later": ...')
    assert "cannot be resolved" in error_of(codec_of(module.body), 1)
    module.Later = Receipt  # type: ignore[attr-defined]
    assert round_trip(codec_of(module.body), RECEIPT) == RECEIPT


def test_a_type_only_imported_for_type_checkers() -> None:
    source = FUTURE + textwrap.dedent("""
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            from decimal import Decimal
        def body(n: Decimal) -> Decimal: ...
        def fine(n: Decimal) -> int: ...
    """)
    module = module_of(source)
    assert "name 'Decimal' is not defined" in error_of(codec_of(module.body), 1)
    assert round_trip(codec_of(module.fine), 1) == 1


if sys.version_info >= (3, 12):

    @pytest.mark.parametrize("prefix", ["", FUTURE])
    def test_type_parameters_and_aliases(prefix: str) -> None:
        module = module_of(
            prefix
            + textwrap.dedent("""
                type Amounts = dict[str, Decimal]
                type Count = int
                type Json = dict[str, Json] | list[Json] | str | int | None
                def first[T](items: list[T]) -> T: ...
                def many[T](items: list[T]) -> tuple[T, ...]: ...
                def amounts() -> Amounts: ...
                def count() -> Count: ...
                def anything() -> Json: ...
            """),
            Decimal=Decimal,
        )
        assert codec_of(module.first) is PLAIN
        assert round_trip(codec_of(module.many), (1, "a")) == (1, "a")
        assert "comes back as" in error_of(codec_of(module.many), (NOW,))
        assert round_trip(codec_of(module.amounts), {"a": Decimal(1)}) == {"a": Decimal(1)}
        assert round_trip(codec_of(module.count), 3) == 3
        assert "cannot be rebuilt" in error_of(codec_of(module.count), "3")
        assert round_trip(codec_of(module.anything), {"a": [1, None]}) == {"a": [1, None]}
