"""Frozen dataclasses from plain values, strict about every key, type and number. Torch-free."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar

from ltp_core.records import UserError, nearest

T = TypeVar("T")


class ConfigError(UserError):
    """A setting that does not exist, has the wrong type or an impossible value."""


def require(condition: bool, message: str) -> None:
    """Refuses an impossible value.

    Raises:
        ConfigError: The condition does not hold.
    """
    if not condition:
        raise ConfigError(f"{message}.")


def require_above_zero(config: object, *names: str) -> None:
    """Refuses fields that are 0 or less; None passes.

    Raises:
        ConfigError: One is.
    """
    for name in names:
        value = getattr(config, name)
        require(value is None or value > 0, f"{name} = {value}: must be above 0")


def require_between(config: object, low: float, high: float, *names: str) -> None:
    """Refuses fields outside of `low` to `high`, both allowed; None passes.

    Raises:
        ConfigError: One is.
    """
    for name in names:
        value = getattr(config, name)
        bounds = f"at least {low}" if high == math.inf else f"between {low} and {high}"
        require(value is None or low <= value <= high, f"{name} = {value}: must be {bounds}")


def build(cls: type[T], raw: Mapping[str, Any], where: str = "") -> T:
    """One dataclass from a table, recursively; what the table lacks takes its default.

    Args:
        cls: A dataclass whose fields are numbers, strings, booleans, `Literal`s, dataclasses, lists
            of one of these (`tuple[X, ...]`), tables and values of any plain kind (`dict[str, Any]`,
            `Any`), or a union of them with None.
        raw: Values by field name.
        where: Name of the table with a dot behind it, for the messages.

    Raises:
        ConfigError: An unknown key (with the nearest name), a missing one, a wrong type, or a value
            that the class refuses.
    """
    kinds = typing.get_type_hints(cls)
    for key in raw:
        if key not in kinds:
            raise ConfigError(f"{where}{key}: no such setting{nearest(str(key), kinds)}")
    for field in fields(cls):  # type: ignore[arg-type]  # every caller passes a dataclass
        is_required = field.default is MISSING and field.default_factory is MISSING
        require(
            field.name in raw or not is_required, f"{where}{field.name}: this setting must be given"
        )
    values = {key: _value(kinds[key], value, f"{where}{key}") for key, value in raw.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from error


def _value(expected: Any, value: Any, where: str) -> Any:
    """The value, if it is of the annotated kind; whole numbers pass as floats."""
    options = typing.get_args(expected) if isinstance(expected, types.UnionType) else (expected,)
    for option in options:
        if is_dataclass(option) and isinstance(value, Mapping):
            return build(typing.cast("type[Any]", option), value, f"{where}.")
        if option is float and type(value) in (int, float) and _is_finite(value):
            return float(value) + 0.0  # -0.0 is 0.0
        if type(value) is option and option is not float:
            return value
        if typing.get_origin(option) is Literal and value in typing.get_args(option):
            return value
        if typing.get_origin(option) is tuple and isinstance(value, list):
            kind = typing.get_args(option)[0]
            return tuple(_value(kind, v, f"{where}[{i}]") for i, v in enumerate(value))
        if _is_any_plain(option, value):
            return value
    wanted = " or ".join(_describe(option) for option in options)
    raise ConfigError(f"{where} = {value!r}: must be {wanted}.")


def _is_any_plain(option: Any, value: Any) -> bool:
    is_table = typing.get_origin(option) is dict and isinstance(value, Mapping)
    return (option is Any or is_table) and is_plain(value)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


_DESCRIPTIONS = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    types.NoneType: "none",
    Any: "a number, text, a list or a table",
}


def _describe(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return " or ".join(repr(value) for value in typing.get_args(option))
    origin = typing.get_origin(option)
    if origin is tuple:
        return "a list"
    return "a table" if is_dataclass(option) or origin is dict else _DESCRIPTIONS[option]


def is_plain(value: Any) -> bool:
    """True for what JSON and TOML both can say: strings, finite numbers, booleans, lists, tables."""
    if isinstance(value, list):
        return all(is_plain(item) for item in value)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return isinstance(value, str | bool) or (type(value) in (int, float) and _is_finite(value))
