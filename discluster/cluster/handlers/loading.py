# SPDX-License-Identifier: Apache-2.0
"""From the name in cluster.yaml to a packet handler, with every mistake told in words."""

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any, Final

import msgspec

from discluster.cluster.handlers import (
    AnyPacketHandler,
    BatchPacketHandler,
    FlushingHandler,
    PacketHandler,
    TellingHandler,
)
from discluster.cluster.handlers.builtin import BUILT_IN, Surroundings, make_built_in
from discluster.cluster.handlers.calls import CallMethod
from discluster.errors import ConfigurationError
from discluster.gateway.handling import Failures, Handling
from discluster.messages import CallName

GROUP: Final = "discluster.handlers"
"""Entry points of this group are handlers that an installed package offers by a plain name."""

_HINT: Final = (
    "see 'handler' in cluster.yaml; the module must be importable by the cluster's Python:"
    " installed, or in its 'virtual_environment'"
)
_METHODS: Final = ("start", "stop", "summary")
_EVENT_TYPE: Final = re.compile(r"[A-Z][A-Z0-9_]*")


def load_handler(name: str, surroundings: Surroundings) -> AnyPacketHandler:
    """The handler of ours that is called ``name``; or what ``module:attribute``, or the entry point
    ``name``, makes when it is called.

    Raises:
        ConfigurationError: it cannot be found, imported or made, or is no packet handler.
    """
    if name in BUILT_IN:
        return make_built_in(name, surroundings)
    told = f"handler {name}"
    module_name, _, attribute = (name if ":" in name else _entry_point(name)).partition(":")
    factory = _attribute(told, _imported(told, module_name), module_name, attribute)
    try:
        handler = factory()
    except ConfigurationError as error:
        raise _told_anew(told, error) from None
    except Exception as error:
        raise ConfigurationError(
            f"{told}: calling it fails: {_reason(error)}", hint=_HINT
        ) from error
    _check(told, handler)
    wanted_types(told, handler)
    call_methods(told, handler)
    made: AnyPacketHandler = handler
    return made


def handling(handler: AnyPacketHandler, failures: Failures) -> Handling:
    """How shards hand their events to ``handler``."""
    wants = wanted_types("handler", handler)
    if isinstance(handler, BatchPacketHandler):
        return Handling(failures=failures, batch=handler.handle_batch, wants=wants)
    return Handling(failures=failures, handle=handler.handle, wants=wants)


def wanted_types(told: str, handler: object) -> frozenset[str] | None:
    """The event types that ``handler`` names in ``wants``; None: it wants all.

    Raises:
        ConfigurationError: they are no names of event types.
    """
    wants = getattr(handler, "wants", None)
    if wants is None:
        return None
    names = [] if isinstance(wants, str) or not isinstance(wants, Iterable) else list(wants)
    if not names or not all(isinstance(n, str) and _EVENT_TYPE.fullmatch(n) for n in names):
        raise ConfigurationError(
            f"{told}: 'wants' is {wants!r:.100}",
            hint="it is a set of event types as Discord names them, such as {'MESSAGE_CREATE'};"
            " without it the handler gets all",
        )
    return frozenset(names)


def call_methods(told: str, handler: object) -> Mapping[str, CallMethod]:
    """The calls that ``handler`` answers, as it names them in ``calls``; maybe none.

    Raises:
        ConfigurationError: they are no names of calls, or what they name cannot be called.
    """
    calls = getattr(handler, "calls", None)
    if calls is None:
        return {}
    if not isinstance(calls, Mapping) or not all(map(_is_call_name, calls)):
        raise ConfigurationError(
            f"{told}: 'calls' is {calls!r:.100}",
            hint="it is a dict of what other clusters may call, such as {'stats': self.stats};"
            " a name has up to 64 letters, digits, '_', '-' and '.'",
        )
    for name, method in calls.items():
        if not callable(method):
            raise ConfigurationError(
                f"{told}: the call {name!r} is {type(method).__name__!r} and cannot be called",
                hint="it is a function or a method",
            )
        hint = "it takes the arguments of the call, as one value; name methods of the object,"
        _check_call(f"{told}: the call {name!r}", method, None, hint=f"{hint} as in __init__")
    return dict(calls)


def _is_call_name(name: object) -> bool:
    try:
        msgspec.convert(name, CallName)
    except msgspec.ValidationError:
        return False
    return True


def _entry_point(name: str) -> str:
    """``module:attribute`` of the entry point."""
    offered = metadata.entry_points(group=GROUP)
    values = sorted({point.value for point in offered if point.name == name})
    if len(values) > 1:
        raise ConfigurationError(
            f"handler {name}: several packages offer it: {', '.join(values)}",
            hint="name one of these as 'handler' in cluster.yaml, or uninstall the others",
        )
    if not values:
        names = sorted({point.name for point in offered})
        there = f"there are {', '.join(names[:10])}" if names else "there are none at all"
        raise ConfigurationError(
            f"handler {name}: no installed package offers it (entry points of {GROUP}); {there}",
            hint="install the package into the 'virtual_environment' of cluster.yaml, or name"
            " 'handler' as module:attribute",
        )
    # What follows in brackets are extras, which concern whoever installs.
    return values[0].partition("[")[0].replace(" ", "")


def _imported(told: str, module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ConfigurationError as error:
        raise _told_anew(told, error) from None
    except ImportError as error:
        raise ConfigurationError(f"{told}: {error}{_place(error)}", hint=_HINT) from None
    except Exception as error:
        raise ConfigurationError(
            f"{told}: the module fails on import: {_reason(error)}", hint=_HINT
        ) from error


def _told_anew(told: str, error: ConfigurationError) -> ConfigurationError:
    """What an adapter of ours says in the operator's code is meant for the operator as it is."""
    return ConfigurationError(f"{told}: {error.message}", hint=error.hint)


def _attribute(told: str, module: object, module_name: str, attribute: str) -> Callable[[], Any]:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"{told}: module {module_name} has no {part!r}", hint=_HINT)
        found = getattr(found, part)
    if not callable(found):
        raise ConfigurationError(
            f"{told}: it is {type(found).__name__!r} and cannot be called",
            hint="it is called without arguments, as a class or a function is, and gives the"
            " handler",
        )
    made: Callable[[], Any] = found
    return made


def _check(told: str, handler: object) -> None:
    kind = type(handler).__name__
    missing = [name for name in _METHODS if not callable(getattr(handler, name, None))]
    ways = [n for n in ("handle", "handle_batch") if callable(getattr(handler, n, None))]
    if not ways:
        missing.insert(0, "handle (or handle_batch)")
    if missing:
        raise ConfigurationError(
            f"{told}: {kind} is no packet handler: it lacks {', '.join(missing)}",
            hint="it needs the methods start, handle or handle_batch, stop and summary",
        )
    if len(ways) == 2:
        raise ConfigurationError(
            f"{told}: {kind} has both handle and handle_batch",
            hint="events come in one way: remove one of the methods",
        )
    assert isinstance(handler, PacketHandler | BatchPacketHandler)
    numbers = "it takes the cluster's number and the commands"
    _check_call(told, handler.start, 0, None, hint=numbers)
    if isinstance(handler, BatchPacketHandler):
        _check_call(told, handler.handle_batch, [], hint="it takes a list of events")
    else:
        _check_call(told, handler.handle, None, hint="it takes an event")
    _check_call(told, handler.stop, hint="it takes nothing")
    _check_call(told, handler.summary, hint="it takes nothing")
    if isinstance(handler, FlushingHandler):
        _check_call(told, handler.flush, 0, hint="it takes the number of a shard")
    if isinstance(handler, TellingHandler):
        _check_call(told, handler.problem, 0, hint="it takes the number of a shard")


def _check_call(told: str, method: Callable[..., object], *arguments: object, hint: str) -> None:
    try:
        signature = inspect.signature(method)
    except ValueError:
        return  # of a compiled method nothing can be told before it is called
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise ConfigurationError(
            f"{told}: {getattr(method, '__name__', method)} cannot be called: {error}", hint=hint
        ) from None


def _reason(error: Exception) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}{_place(error)}"


def _place(error: Exception) -> str:
    """File and line of the operator's code where it failed, if it was there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename == __file__:
            break
        if not frame.filename.startswith("<frozen") and frame.filename != importlib.__file__:
            return f" ({frame.filename}:{frame.lineno})"
    return ""
