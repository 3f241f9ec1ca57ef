"""Writes the blocking twins of the client and of the recipes: src/corral/sync/client.py and recipes.py.

    python tools/blocking.py            # write them
    python tools/blocking.py --check    # only say whether they are what it would write

Signatures, types and docstrings are those of the asyncio classes, as their source has them; the bodies go through
:class:`corral.sync.portal.Portal`. What cannot be translated is named, with file and line, and left out.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import copy
import importlib
import inspect
import re
import subprocess
import sys
import sysconfig
import textwrap
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT: Final = Path(__file__).resolve().parent.parent
LINE_LENGTH: Final = 120

OMITTED: Final = {
    # What the modules of the client and of the recipes offer each other.
    "Client": {
        "drop_watch",
        "encode_create",
        "encode_set",
        "encode_versioned",
        "forget_watch",
        "key",
        "send",
        "shown",
        "submit",
    },
    "Execution": {"finish", "flush", "keep", "load"},
    "Session": {"end"},
    "Held": {"look", "move", "start_release"},
}
IN_CALLER: Final = {
    # Methods that neither wait nor touch what the loop's thread changes, or that only read it: at memory speed.
    "Cache": {"__contains__", "__getitem__", "__len__", "children", "get", "snapshot"},
    "Client": {"cache", "follow", "transaction", "watch"},
    "Members": {"__contains__", "get"},
    "Session": {"__str__"},
    "Transaction": {"__len__", "check", "create", "delete", "set"},
}
IN_PLACE: Final = {"validate"}
"""Functions whose outcome the client needs at once: they are called in the loop's thread, and must not block."""
COMMITTING: Final = {"Transaction"}
"""Classes whose block ends with work that must not be left out, rather than with the end of something."""
SPECIAL_BODIES: Final = {
    ("Client", "start"): "self._portal.start(self._original.start)\nreturn self",
    ("Client", "close"): "self._portal.close()",
    ("Client", "__enter__"): "return self.start()",
    ("Client", "__exit__"): "self.close()",
}
DOCSTRINGS: Final = {
    "Client": """A blocking client of a coordination service; made by :func:`connect`.

Any number of threads may use it at once. The requests of each thread are done in the order in which they were
made. Reads are asked again when the connection breaks; a write then ends with ConnectionLoss, for it may or may
not have been done. While there is no connection, calls wait for one, as long as a session lasts. All paths are
below the chroot of the connect string.

Callbacks run one after the other in a thread of their own, and may make blocking calls. A call that is
interrupted, by KeyboardInterrupt or a :class:`~corral.sync.CancelScope`, is cancelled: that is what docstrings
mean by it.""",
}

_AWAITABLE: Final = {
    "collections.abc.Awaitable",
    "collections.abc.Coroutine",
    "typing.Awaitable",
    "typing.Coroutine",
    "asyncio.Future",
    "asyncio.Task",
}
_ITERATOR: Final = {
    "collections.abc.AsyncIterator",
    "collections.abc.AsyncGenerator",
    "collections.abc.AsyncIterable",
    "typing.AsyncIterator",
}
_CONTEXT: Final = {"contextlib.AbstractAsyncContextManager", "typing.AsyncContextManager"}
_CALLABLE: Final = {"collections.abc.Callable", "typing.Callable"}
_MANY: Final = {
    "builtins.list",
    "collections.abc.Collection",
    "collections.abc.Iterable",
    "collections.abc.Sequence",
}
_MAPPING: Final = {"builtins.dict", "collections.abc.Mapping"}
_DUNDERS_LEFT_OUT: Final = {
    "__await__",
    "__class_getitem__",
    "__eq__",
    "__hash__",
    "__init_subclass__",
    "__new__",
    "__repr__",
    "__setattr__",
    "__delattr__",
    "__getstate__",
    "__setstate__",
}


class Untranslatable(Exception):  # noqa: N818
    """What has no blocking form, or hides its type."""


# The source


@dataclass
class Source:
    """A module of the asyncio client, as it is written."""

    name: str
    path: str
    tree: ast.Module
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    """For each name the module that it comes from, and its name there; None for a module itself."""
    own: set[str] = field(default_factory=set)
    statements: list[ast.stmt] = field(default_factory=list)
    """Those at the top, also below an ``if``."""

    def resolve(self, name: str) -> str:
        """The full dotted name of ``name``."""
        if name in self.imports:
            module, original = self.imports[name]
            return module if original is None else f"{module}.{original}"
        if name in self.own:
            return f"{self.name}.{name}"
        if hasattr(builtins, name):
            return f"builtins.{name}"
        raise Untranslatable(f"{name} is not known")

    def joined_with(self, other: Source) -> Source:
        """This one, with the names of another one that it does not have itself."""
        names = {name: (other.name, name) for name in other.own} | other.imports
        imports = {name: origin for name, origin in names.items() if name not in self.own} | self.imports
        return Source(self.name, self.path, self.tree, imports, self.own, self.statements)


@cache
def source_of(module: str) -> Source:
    path = inspect.getsourcefile(importlib.import_module(module))
    assert path is not None
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    source = Source(module, str(Path(path).relative_to(ROOT)), tree)
    source.statements = statements = list(tree.body)
    for statement in statements:
        match statement:
            case ast.If():
                statements.extend(statement.body)
            case ast.ImportFrom(module=str(origin), level=0):
                for name in statement.names:
                    source.imports[name.asname or name.name] = (origin, name.name)
            case ast.Import():
                for name in statement.names:
                    source.imports[name.asname or name.name] = (name.name, None)
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                source.own.add(statement.name)
            case ast.Assign():
                source.own.update(each.id for each in statement.targets if isinstance(each, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                source.own.add(name)
    return source


@cache
def definition_of(kind: type) -> ast.ClassDef:
    for statement in source_of(kind.__module__).tree.body:
        if isinstance(statement, ast.ClassDef) and statement.name == kind.__name__:
            return statement
    raise Untranslatable(f"{kind!r} is not defined at the top of its module")


def found(dotted: str) -> Any:
    """The object that a full name means; None for one that exists only for type checkers."""
    module, _, name = dotted.rpartition(".")
    if not module:
        return None
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None


@dataclass
class Member:
    """Something that a class offers, where it is written."""

    source: Source
    node: ast.FunctionDef | ast.AsyncFunctionDef | None
    annotation: ast.expr | None = None
    docstring: str | None = None
    line: int = 0


def own_classes(kind: type) -> list[type]:
    return [each for each in kind.__mro__ if each.__module__.startswith("corral.")]


class _Substitution(ast.NodeTransformer):
    """Puts types in the place of type variables."""

    def __init__(self, types: dict[str, ast.expr]) -> None:
        self._types = types

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._types.get(node.id, node)


def substitutions(kind: type) -> dict[type, tuple[Source, dict[str, ast.expr]]]:
    """For each generic base of a class what its type variables stand for, and where those types are written."""
    given: dict[type, tuple[Source, dict[str, ast.expr]]] = {}
    for each in own_classes(kind):
        source = source_of(each.__module__)
        for base in definition_of(each).bases:
            if not isinstance(base, ast.Subscript) or not isinstance(base.value, ast.Name):
                continue
            generic = found(source.resolve(base.value.id))
            names = [variable.__name__ for variable in getattr(generic, "__parameters__", ())]
            arguments = base.slice.elts if isinstance(base.slice, ast.Tuple) else [base.slice]
            if isinstance(generic, type) and generic.__module__.startswith("corral.") and names:
                outer = given.get(each, (source, {}))[1]
                types = [_Substitution(outer).visit(copy.deepcopy(argument)) for argument in arguments]
                given[generic] = (given[each][0] if outer else source, dict(zip(names, types, strict=True)))
    return given


@cache
def members_of(kind: type) -> dict[str, Member]:
    """All that a class offers, its bases included, in the order in which it is written."""
    members: dict[str, Member] = {}
    given = substitutions(kind)
    for each in reversed(own_classes(kind)):
        source, definition = source_of(each.__module__), definition_of(each)
        if each in given:
            other, types = given[each]
            definition = _Substitution(types).visit(copy.deepcopy(definition))
            source = source.joined_with(other)
        body = definition.body
        for index, statement in enumerate(body):
            match statement:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    members[statement.name] = Member(source, statement, line=statement.lineno)
                    if statement.name == "__init__":
                        for name, member in attributes_of(source, statement).items():
                            members.setdefault(name, member)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    docstring = _docstring_after(body, index)
                    members[name] = Member(source, None, annotation, docstring, statement.lineno)
    return members


def attributes_of(source: Source, init: ast.FunctionDef | ast.AsyncFunctionDef) -> dict[str, Member]:
    """What ``__init__`` sets, with its types."""
    parameters = {each.arg: each.annotation for each in [*init.args.args, *init.args.kwonlyargs]}
    attributes: dict[str, Member] = {}
    for index, statement in enumerate(init.body):
        annotation: ast.expr | None = None
        match statement:
            case ast.AnnAssign(target=ast.Attribute(value=ast.Name(id="self"), attr=name)):
                annotation = statement.annotation
            case ast.Assign(targets=[ast.Attribute(value=ast.Name(id="self"), attr=name)], value=value):
                annotation = _inferred(source, value, parameters)
            case _:
                continue
        attributes[name] = Member(source, None, annotation, _docstring_after(init.body, index), statement.lineno)
    return attributes


_TEXT_TO_TEXT: Final = {"lower", "lstrip", "removeprefix", "removesuffix", "rstrip", "strip", "upper"}


def _inferred(source: Source, value: ast.expr, parameters: dict[str, ast.expr | None]) -> ast.expr | None:
    """The annotation of what an attribute is set to, if it is plain enough."""
    match value:
        case ast.Name(id=name):
            return parameters.get(name)
        case ast.Call(func=ast.Attribute(value=value, attr=method)) if method in _TEXT_TO_TEXT:
            known = _inferred(source, value, parameters)
            return known if known is not None and ast.unparse(known) == "str" else None
        case ast.Constant(value=bool() | int() | str() | bytes() | float() as constant):
            return ast.Name(type(constant).__name__)
        case ast.Call(func=ast.Name(id=name)) if isinstance(found(source.resolve(name)), type):
            return ast.Name(name)
        case ast.Attribute(value=ast.Name(id=name), attr=attribute) if isinstance(parameters.get(name), ast.Name):
            kind = found(source.resolve(ast.unparse(parameters[name] or value)))
            if isinstance(kind, type) and kind.__module__.startswith("corral."):
                member = members_of(kind).get(attribute)
                if member is not None:
                    return member.annotation if member.node is None else member.node.returns
        case ast.IfExp(body=body, orelse=other):
            first, second = _inferred(source, body, parameters), _inferred(source, other, parameters)
            texts = {ast.unparse(each).removesuffix(" | None") for each in (first, second) if each is not None}
            if len(texts) == 1:
                return ast.parse(texts.pop(), mode="eval").body
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            first, second = _inferred(source, left, parameters), _inferred(source, right, parameters)
            return first or second
        case ast.JoinedStr():
            return ast.Name("str")
    return None


def _docstring(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    """The docstring without the indentation of the source. (inspect.cleandoc takes that of an example for it.)"""
    text = ast.get_docstring(node, clean=False) or ""
    margin = " " * node.body[0].col_offset
    return "\n".join(line.removeprefix(margin) for line in text.splitlines()).strip()


def _docstring_after(body: list[ast.stmt], index: int) -> str | None:
    match body[index + 1 : index + 2]:
        case [ast.Expr(value=ast.Constant(value=str(text)))]:
            return text
    return None


# Which classes get a twin


class Twins:
    """The classes that have a blocking twin, and the module of each twin."""

    def __init__(self) -> None:
        self.modules: dict[type, str] = {}
        for package, target in (("corral.client", "corral.sync.client"), ("corral.recipes", "corral.sync.recipes")):
            module = importlib.import_module(package)
            candidates = {each for name in _exported(module) if _may_have_twin(each := getattr(module, name), package)}
            # One twin makes others needed: of a class that hands it out, of an unexported class that it hands out.
            while new := {each for each in candidates if each not in self.modules and self._needs_twin(each)}:
                self.modules.update(dict.fromkeys(new, target))
                mentioned = {other for each in new for other in self._mentioned(each)}
                candidates |= {each for each in mentioned if _may_have_twin(each, package)}

    def _annotations(self, kind: type) -> Iterator[tuple[Source, ast.expr]]:
        """The types in what a class offers."""
        for name, member in members_of(kind).items():
            if _is_left_out(kind, name):
                continue
            annotations = [member.annotation]
            if member.node is not None:
                annotations = [member.node.returns, *[each.annotation for each in _parameters(member.node)]]
            for annotation in annotations:
                if annotation is not None:
                    yield member.source, annotation

    def _needs_twin(self, kind: type) -> bool:
        """Whether it waits for anything, or hands out what does."""
        members = members_of(kind)
        if any(
            isinstance(each.node, ast.AsyncFunctionDef)
            for name, each in members.items()
            if not _is_left_out(kind, name)
        ):
            return True
        return any(self.mentions_twin(source, annotation) for source, annotation in self._annotations(kind))

    def _mentioned(self, kind: type) -> Iterator[type]:
        for source, annotation in self._annotations(kind):
            for node in ast.walk(annotation):
                if isinstance(node, ast.Name):
                    with contextlib.suppress(Untranslatable):
                        value = found(source.resolve(node.id))
                        if isinstance(value, type):
                            yield value

    def mentions_twin(self, source: Source, annotation: ast.expr) -> bool:
        """Whether values of a type are waited for, or have a twin."""
        for node in ast.walk(annotation):
            if isinstance(node, (ast.Name, ast.Attribute)):
                try:
                    dotted = _dotted(source, node)
                except Untranslatable:
                    continue
                if dotted in _AWAITABLE | _ITERATOR | _CONTEXT or self.twin_of(dotted) is not None:
                    return True
        return False

    def twin_of(self, dotted: str) -> type | None:
        kind = found(dotted)
        return kind if isinstance(kind, type) and kind in self.modules else None


def _may_have_twin(value: object, package: str) -> bool:
    return isinstance(value, type) and value.__module__.startswith(package) and not issubclass(value, BaseException)


def _is_left_out(kind: type, name: str) -> bool:
    is_private = name.startswith("_") and not name.startswith("__")
    return is_private or name in _DUNDERS_LEFT_OUT or name in OMITTED.get(kind.__name__, ())


def _exported(module: ModuleType) -> list[str]:
    return list(getattr(module, "__all__", ()))


def _dotted(source: Source, node: ast.expr) -> str:
    match node:
        case ast.Name(id=name):
            return source.resolve(name)
        case ast.Attribute(value=value, attr=attr):
            return f"{_dotted(source, value)}.{attr}"
    raise Untranslatable(f"{ast.unparse(node)} is no name")


# Types


@dataclass
class Translation:
    """How a type is written in the blocking twin, and how values cross over."""

    text: str
    to_original: str | None = None
    """An expression with ``{}`` for the twin's value; None if it stays as it is."""
    to_twin: str | None = None
    kind: str = "plain"
    """``plain``, ``self``, ``awaitable``, ``iterator``, ``context``."""


class Module:
    """A generated module: its imports, and what it defines."""

    def __init__(self, name: str, twins: Twins) -> None:
        self.name = name
        self.twins = twins
        self.imports: dict[str, tuple[str, str, bool]] = {}
        """For each name its module, its name there, and whether it is needed at run time."""
        self.own: set[str] = set()
        """What it defines itself."""
        self.type_variables: dict[str, str] = {}
        self.problems: list[str] = []

    def use(self, module: str, name: str, *, running: bool = False, alias: str | None = None) -> str:
        """Import a name; returns what it is called here."""
        if module == "builtins":
            return name
        shown = alias or name
        before = self.imports.get(shown)
        if shown in self.own or (before is not None and before[:2] != (module, name)):
            value = found(f"{module}.{name}")
            if before is None or value is None or value is not found(f"{before[0]}.{before[1]}"):
                # Another one has that name here.
                other = f"{module.rpartition('.')[2]}_{shown}"
                return self.use(module, name, running=running, alias=other.upper() if name.isupper() else other)
            module, name = before[:2]
        self.imports[shown] = (module, name, running or (before is not None and before[2]))
        return shown

    def translate(self, source: Source, node: ast.expr, where: str = "") -> Translation:
        """``where`` names the parameter, for functions that the client calls."""
        match node:
            case ast.Constant(value=str(text)):
                return self.translate(source, ast.parse(text, mode="eval").body, where)
            case ast.Constant():
                return Translation(ast.unparse(node))
            case ast.Name() | ast.Attribute():
                return self._translate_name(source, node, where)
            case ast.BinOp(op=ast.BitOr()):
                return self._translate_union(source, node, where)
            case ast.Subscript():
                return self._translate_generic(source, node, where)
            case ast.List(elts=items):
                return Translation(f"[{', '.join(self.translate(source, each).text for each in items)}]")
        raise Untranslatable(f"type {ast.unparse(node)}")

    def _translate_name(self, source: Source, node: ast.expr, where: str) -> Translation:
        dotted = _dotted(source, node)
        module, _, name = dotted.rpartition(".")
        if dotted in ("typing.Self", "typing_extensions.Self"):
            return Translation(self.use("typing", "Self"), "{}._original", "type(self)._of(self._portal, {})", "self")
        kind = self.twins.twin_of(dotted)
        if kind is not None:
            target = self.twins.modules[kind]
            shown = kind.__name__ if target == self.name else self.use(target, kind.__name__, running=True)
            return Translation(shown, "{}._original", shown + "._of(self._portal, {})")
        if dotted in _AWAITABLE | _ITERATOR | _CONTEXT:
            raise Untranslatable(f"{name} without what it gives")
        if name in source.own:
            variable = _type_variable(source, name)
            if variable is not None:
                self.type_variables[name] = variable
                self.use("typing", "TypeVar", running=True)
                return Translation(name)
        alias = _alias(dotted)
        if alias is not None:
            meant = self.translate(*alias, where)
            if meant.to_original or meant.to_twin or meant.kind != "plain":
                return meant
        if module.startswith("asyncio"):
            raise Untranslatable(f"{dotted} has no blocking form")
        return Translation(self.use(module, name))

    def _translate_union(self, source: Source, node: ast.BinOp, where: str) -> Translation:
        parts = [self.translate(source, each, where) for each in _alternatives(node)]
        text = " | ".join(each.text for each in parts)
        changing = [each for each in parts if each.to_original or each.to_twin or each.kind != "plain"]
        if not changing:
            return Translation(text)
        others = [each for each in parts if each not in changing]
        if any(each.kind not in ("plain", "self") for each in parts):
            raise Untranslatable(f"union {ast.unparse(node)}: it may have to be waited for, or not")
        if any(each.text != "None" for each in others) or len({each.to_original for each in changing}) > 1:
            raise Untranslatable(f"union {ast.unparse(node)}: its members cross over in different ways")
        has_none = bool(others)
        first = changing[0]
        if len({each.to_twin for each in changing}) > 1:
            first = Translation(first.text, first.to_original, "twin_of(self._portal, {})")
            self.use("corral.sync.twin", "twin_of", running=True)
        if not has_none:
            return Translation(text, first.to_original, first.to_twin)
        if first.to_original is not None and first.to_original.startswith("self._portal."):
            # The portal's own conversions let None pass.
            return Translation(text, first.to_original, first.to_twin)
        return Translation(
            text,
            f"({first.to_original} if {{}} is not None else None)" if first.to_original else None,
            # A name, so that the call stands only once.
            f"({first.to_twin.format('found')} if (found := {{}}) is not None else None)" if first.to_twin else None,
        )

    def _translate_generic(self, source: Source, node: ast.Subscript, where: str) -> Translation:
        head = _dotted(source, node.value)
        name = head.rpartition(".")[2]
        arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if head in _AWAITABLE:
            inner = self.translate(source, arguments[-1])
            return Translation(inner.text, None, inner.to_twin, "awaitable")
        if head in _ITERATOR:
            inner = self.translate(source, arguments[0])
            return Translation(
                f"{self.use('collections.abc', 'Iterator')}[{inner.text}]", None, inner.to_twin, "iterator"
            )
        if head in _CONTEXT:
            inner = self.translate(source, arguments[0])
            shown = self.use("contextlib", "AbstractContextManager")
            return Translation(f"{shown}[{inner.text}]", None, inner.to_twin, "context")
        if head in _CALLABLE:
            return self._translate_callable(source, arguments, where)
        if name == "Literal":
            return Translation(f"{self.use('typing', 'Literal')}[{ast.unparse(node.slice)}]")
        parts = [self.translate(source, each) for each in arguments]
        bases = self.translate(source, node.value)
        text = f"{bases.text}[{', '.join(each.text for each in parts)}]"
        if bases.to_twin is not None:
            return Translation(text, bases.to_original, bases.to_twin)
        if not any(each.to_original or each.to_twin for each in parts):
            return Translation(text)
        item = parts[-1]
        if head in _MANY and len(parts) == 1:
            return Translation(
                text,
                f"[{item.to_original.format('each')} for each in {{}}]" if item.to_original else None,
                f"[{item.to_twin.format('each')} for each in {{}}]" if item.to_twin else None,
            )
        if head in _MAPPING and not (parts[0].to_original or parts[0].to_twin):
            return Translation(
                text,
                f"{{{{name: {item.to_original.format('each')} for name, each in {{}}.items()}}}}"
                if item.to_original
                else None,
                f"{{{{name: {item.to_twin.format('each')} for name, each in {{}}.items()}}}}" if item.to_twin else None,
            )
        raise Untranslatable(f"type {ast.unparse(node)}: its items cannot cross over")

    def _translate_callable(self, source: Source, arguments: list[ast.expr], where: str) -> Translation:
        shown = self.use("collections.abc", "Callable")
        taken, returned = arguments
        outcome = self.translate(source, returned)
        takes = "..." if isinstance(taken, ast.Constant) else self.translate(source, taken).text
        text = f"{shown}[{takes}, {outcome.text}]"
        if outcome.kind == "awaitable":
            return Translation(text, "self._portal.body({})")
        if outcome.kind != "plain" or outcome.to_twin:
            raise Untranslatable(f"a function that returns {ast.unparse(returned)}")
        if outcome.text in ("object", "None") and where not in IN_PLACE:
            return Translation(text, "self._portal.callback({})")
        if "_original" in str([self.translate(source, each).to_original for each in getattr(taken, "elts", ())]):
            return Translation(text, "self._portal.in_place({})")
        return Translation(text)


def _alternatives(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp):
        return [*_alternatives(node.left), *_alternatives(node.right)]
    return [node]


@cache
def _alias(dotted: str) -> tuple[Source, ast.expr] | None:
    """The type that a name stands for, if it is another name for a type."""
    module, _, name = dotted.rpartition(".")
    if not module.startswith("corral."):
        return None
    source = source_of(module)
    for statement in source.statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=own)], value=ast.Subscript() | ast.BinOp() | ast.Name() as value):
                if own == name:
                    return source, value
            case ast.AnnAssign(target=ast.Name(id=own), annotation=ast.Name(id="TypeAlias"), value=ast.expr() as value):
                if own == name:
                    return source, value
    return None


def _type_variable(source: Source, name: str) -> str | None:
    for statement in source.tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=found_name)], value=ast.Call(func=ast.Name(id="TypeVar"))):
                if found_name == name:
                    return ast.unparse(statement)
    return None


# Methods


class Writer:
    """Writes one generated module."""

    def __init__(self, module: Module, package: str) -> None:
        self.module = module
        self.package = package
        self.twins = module.twins

    def write(self, docstring: str) -> str:
        package = importlib.import_module(self.package)
        kinds = [each for each, target in self.twins.modules.items() if target == self.module.name]
        functions: list[Any] = []
        others: list[str] = []
        for name in _exported(package):
            value = getattr(package, name)
            if inspect.isfunction(value) and self._is_translated(value):
                functions.append(value)
            elif value not in kinds:
                others.append(name)
        self.module.own.update(each.__name__ for each in [*kinds, *functions])
        for name in others:
            self.module.use(self.package, name, running=True)
        # A class stands after its bases.
        parts = [self._class(kind) for kind in sorted(kinds, key=lambda each: (len(each.__mro__), each.__name__))]
        parts += filter(None, map(self._function, functions))
        names = [*self.module.own, *others]
        exported = ",\n    ".join(f'"{each}"' for each in sorted(names))
        variables = "\n".join(text for _, text in sorted(self.module.type_variables.items()))
        return "\n\n".join(
            [
                f'"""{docstring}\n\nWritten by tools/blocking.py: change the original, not this.\n"""',
                "from __future__ import annotations",
                self._imports(),
                variables,
                f"__all__ = [\n    {exported},\n]",
                *parts,
            ]
        )

    def _imports(self) -> str:
        running: list[str] = []
        checking: list[str] = []
        for shown, (module, name, is_running) in sorted(self.module.imports.items()):
            line = f"from {module} import {name}" if module else f"import {name}"
            line += f" as {shown}" if shown != name else ""
            (running if is_running else checking).append(line)
        if checking:
            running.append("from typing import TYPE_CHECKING")
        text = "\n".join(running)
        return text + "\n\nif TYPE_CHECKING:\n" + textwrap.indent("\n".join(checking), "    ") if checking else text

    def _report(self, member: Member, name: str, why: object) -> None:
        self.module.problems.append(f"{member.source.path}:{member.line}: {name}: {why}")

    def _class(self, kind: type) -> str:
        module = self.module
        name = kind.__name__
        original = module.use(kind.__module__, name, running=True, alias=f"Async{name}")
        base = next((each for each in own_classes(kind)[1:] if each in self.twins.modules), None)
        inherited = {} if base is None else members_of(base)
        variables = self._generic_variables(kind)
        suffix = f"[{', '.join(variables)}]" if variables else ""
        if base is not None:
            target = self.twins.modules[base]
            bases = base.__name__ if target == module.name else module.use(target, base.__name__, running=True)
            bases += self._given(kind, base)
        else:
            bases = f"{module.use('corral.sync.twin', 'Twin', running=True)}[{original}{suffix}]"
            if variables:
                bases += f", {module.use('typing', 'Generic', running=True)}{suffix}"
        header = f"class {name}({bases}, of={original}):"
        lines = [header]
        docstring = DOCSTRINGS.get(name) or translate_docstring(_docstring(definition_of(kind)))
        lines.append(textwrap.indent(_quoted(docstring), "    "))
        if base is not None:
            lines.append(f"    _original: {original}{suffix}")
        for each, member in members_of(kind).items():
            if each in inherited and (inherited[each].source.path, inherited[each].line) == (
                member.source.path,
                member.line,
            ):
                continue
            if _is_left_out(kind, each):
                continue
            try:
                text = self._member(kind, each, member)
            except Untranslatable as why:
                self._report(member, f"{name}.{each}", why)
                continue
            if text:
                lines.append(textwrap.indent(text, "    "))
        return "\n\n".join(lines)

    def _given(self, kind: type, base: type) -> str:
        """What a class gives its generic base."""
        if base not in (given := substitutions(kind)):
            return ""
        source, types = given[base]
        return f"[{', '.join(self.module.translate(source, each).text for each in types.values())}]"

    def _generic_variables(self, kind: type) -> list[str]:
        for each in definition_of(kind).bases:
            if isinstance(each, ast.Subscript):
                source = source_of(kind.__module__)
                names = [node.id for node in ast.walk(each.slice) if isinstance(node, ast.Name)]
                variables = [name for name in names if _type_variable(source, name) is not None]
                for name in variables:
                    self.module.translate(source, ast.Name(name))
                if variables:
                    return variables
        return []

    def _member(self, kind: type, name: str, member: Member) -> str:
        if member.node is None:
            return self._attribute(name, member)
        if name == "__init__":
            return self._constructor(kind, member)
        return self._method(kind, name, member, member.node)

    def _attribute(self, name: str, member: Member) -> str:
        if member.annotation is None:
            raise Untranslatable("its type does not stand in the source: annotate it")
        annotation = member.annotation
        if isinstance(annotation, ast.Name) and annotation.id == "Final":
            raise Untranslatable("its type does not stand in the source: annotate it")
        if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Final", "ClassVar"):
            annotation = annotation.slice
        translation = self.module.translate(member.source, annotation)
        value = (translation.to_twin or "{}").format(f"self._original.{name}")
        docstring = _quoted(translate_docstring(inspect.cleandoc(member.docstring))) if member.docstring else ""
        body = "\n".join(filter(None, [docstring, f"return {value}"]))
        return f"@property\ndef {name}(self) -> {translation.text}:\n" + textwrap.indent(body, "    ")

    def _constructor(self, kind: type, member: Member) -> str:
        assert member.node is not None
        root = self._root(member, member.node)
        if root is None or kind.__module__.startswith("corral.client"):
            return ""
        signature, arguments = self._signature(member, member.node)
        original = f"Async{kind.__name__}"
        arguments = [each.replace("self._portal", "portal") for each in arguments]
        docstring = _docstring(member.node)
        body = _quoted(translate_docstring(docstring)) + "\n" if docstring else ""
        body += f"portal = {root}._portal\n"
        body += f"self._stand_for(portal, portal.run({', '.join([original, *arguments])}))"
        return f"def __init__({signature}) -> None:\n" + textwrap.indent(body, "    ")

    def _signature(
        self, member: Member, node: ast.FunctionDef | ast.AsyncFunctionDef, *, first: str | None = "self"
    ) -> tuple[str, list[str]]:
        """The parameters as they are written, and the arguments of the call that passes them on."""
        arguments: list[str] = []
        taken = node.args
        written: list[str] = []
        positional = [*taken.posonlyargs, *taken.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(taken.defaults)) + list(taken.defaults)
        for index, (parameter, default) in enumerate(zip(positional, defaults, strict=True)):
            if index == 0 and first is not None:
                written.append(parameter.arg)
            else:
                written.append(self._parameter(member, parameter, default))
                arguments.append(self._argument(member, parameter))
            if taken.posonlyargs and index == len(taken.posonlyargs) - 1:
                written.append("/")
        if taken.vararg is not None:
            written.append("*" + self._parameter(member, taken.vararg, None))
            arguments.append("*" + self._passed_on(member, taken.vararg))
        elif taken.kwonlyargs:
            written.append("*")
        for parameter, default in zip(taken.kwonlyargs, taken.kw_defaults, strict=True):
            written.append(self._parameter(member, parameter, default))
            arguments.append(f"{parameter.arg}={self._argument(member, parameter)}")
        if taken.kwarg is not None:
            written.append("**" + self._parameter(member, taken.kwarg, None))
            arguments.append("**" + self._passed_on(member, taken.kwarg))
        return ", ".join(written), arguments

    def _passed_on(self, member: Member, parameter: ast.arg) -> str:
        assert parameter.annotation is not None
        if self.module.translate(member.source, parameter.annotation, parameter.arg).to_original is not None:
            raise Untranslatable(f"*{parameter.arg} of a type that has a twin")
        return parameter.arg

    def _parameter(self, member: Member, parameter: ast.arg, default: ast.expr | None) -> str:
        if parameter.annotation is None:
            raise Untranslatable(f"parameter {parameter.arg} has no type")
        text = f"{parameter.arg}: {self.module.translate(member.source, parameter.annotation, parameter.arg).text}"
        if default is None:
            return text
        default = copy.deepcopy(default)
        for node in ast.walk(default):
            if isinstance(node, ast.Name):
                module, _, name = member.source.resolve(node.id).rpartition(".")
                if name.startswith("_"):
                    raise Untranslatable(f"the default of {parameter.arg} is the private {name}")
                node.id = self.module.use(module, name, running=True)
        return f"{text} = {ast.unparse(default)}"

    def _argument(self, member: Member, parameter: ast.arg) -> str:
        assert parameter.annotation is not None
        translation = self.module.translate(member.source, parameter.annotation, parameter.arg)
        if translation.kind in ("awaitable", "iterator", "context"):
            raise Untranslatable(f"parameter {parameter.arg} of type {ast.unparse(parameter.annotation)}")
        return translation.to_original.replace("{}", parameter.arg) if translation.to_original else parameter.arg

    def _method(self, kind: type, name: str, member: Member, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
        decorators = {ast.unparse(each).rpartition(".")[2] for each in node.decorator_list}
        unknown = decorators - {"abstractmethod", "asynccontextmanager", "cached_property", "override", "property"}
        if unknown:
            raise Untranslatable(f"decorator {', '.join(sorted(unknown))}")
        if node.returns is None:
            raise Untranslatable("it does not say what it returns")
        is_async = isinstance(node, ast.AsyncFunctionDef)
        result = self.module.translate(member.source, node.returns)
        form = result.kind
        if "asynccontextmanager" in decorators:
            form = "context"
            shown = self.module.use("contextlib", "AbstractContextManager")
            result.text = shown + result.text[result.text.index("[") :]
        elif is_async and not _yields(node):
            if form in ("awaitable", "iterator", "context"):
                raise Untranslatable(f"what it returns ({ast.unparse(node.returns)}) is waited for twice")
            form = "awaitable" if form == "plain" else form
        blocking_name = {
            "__aenter__": "__enter__",
            "__aexit__": "__exit__",
            "__aiter__": "__iter__",
            "__anext__": "__next__",
        }.get(name, name)
        signature, arguments = self._signature(member, node)
        is_property = bool(decorators & {"property", "cached_property"})
        if is_property and (is_async or form in ("awaitable", "iterator", "context")):
            raise Untranslatable("a property that is waited for: make it a method")
        body = SPECIAL_BODIES.get((kind.__name__, blocking_name)) or self._body(
            kind, name, node, result, form, arguments, is_async=is_async, is_property=is_property
        )
        docstring = _docstring(node)
        if docstring:
            body = _quoted(translate_docstring(docstring)) + "\n" + body
        prefix = "@property\n" if is_property else ""
        return f"{prefix}def {blocking_name}({signature}) -> {result.text}:\n" + textwrap.indent(body, "    ")

    def _body(
        self,
        kind: type,
        name: str,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        result: Translation,
        form: str,
        arguments: list[str],
        *,
        is_async: bool,
        is_property: bool,
    ) -> str:
        passed = ", ".join([f"self._original.{name}", *arguments])
        if name == "__anext__":
            return "with self._turn:\n    " + _returning(result, f"self._portal.next({passed})")
        if name == "__aenter__":
            entered = "self._portal.enter(self._original)"
            return f"{entered}\nreturn self" if form == "self" else _returning(result, entered)
        if name == "__aiter__" and form == "self":
            return "self._original.__aiter__()\nreturn self"
        if form == "self" and ast.unparse(node.returns or node) == "Self":
            way = "call" if is_async else "run"
            return f"self._portal.{way}({passed})\nreturn self"
        if form == "iterator":
            items = f"self._portal.iterate({passed})"
            if result.to_twin is not None:
                return f"return ({result.to_twin.format('each')} for each in {items})"
            return f"return {items}"
        if form == "context":
            original = f"self._original.{name}"
            manager = f"lambda: {original}({', '.join(arguments)})" if arguments else original
            return f"return self._portal.context({manager}, lambda each: {(result.to_twin or '{}').format('each')})"
        if form == "awaitable":
            is_end = name in ("__aexit__", "close", "release") and kind.__name__ not in COMMITTING
            text = _returning(result, f"self._portal.{'leave' if is_end else 'call'}({passed})")
            if is_async or kind.__name__ != "Client":
                return text
            # What sends one request can do so from the caller's thread, but not what sets a watch besides.
            callbacks = [each for each in arguments if "self._portal.callback(" in each]
            plain = [each for each in arguments if each not in callbacks]
            asked = _returning(result, f"self._portal.ask({', '.join([f'self._original.{name}', *plain])})")
            if not callbacks:
                return asked
            optional = [
                each.arg
                for each in node.args.kwonlyargs
                if f"{each.arg}=self._portal.callback({each.arg})" in callbacks
            ]
            if len(optional) < len(callbacks):
                return text
            return f"if {' or '.join(f'{each} is not None' for each in optional)}:\n    {text}\n{asked}"
        if name == "__iter__":
            # As it is now: the loop's thread may change it meanwhile.
            return "return iter(self._portal.run(list, self._original))"
        if is_property:
            access = f"self._original.{name}"
            return _returning(result, f"self._portal.run(lambda: {access})" if _has_loop(node) else access)
        if name in IN_CALLER.get(kind.__name__, ()):
            own = {
                "__contains__": f"{arguments[0]} in self._original" if arguments else "",
                "__getitem__": f"self._original[{arguments[0]}]" if arguments else "",
                "__len__": "len(self._original)",
                "__str__": "str(self._original)",
            }
            return _returning(result, own.get(name) or f"self._original.{name}({', '.join(arguments)})")
        return _returning(result, f"self._portal.run({passed})")

    def _is_translated(self, function: Any) -> bool:
        """Whether a function of the package must be waited for, or deals with what has a twin."""
        source, node = _definition(function)
        annotations = [node.returns, *[each.annotation for each in _parameters(node)]]
        return isinstance(node, ast.AsyncFunctionDef) or any(
            self.twins.mentions_twin(source, each) for each in annotations if each is not None
        )

    def _function(self, function: Any) -> str:
        source, node = _definition(function)
        member = Member(source, node, line=node.lineno)
        try:
            return self._translated_function(source, node, member)
        except Untranslatable as why:
            self._report(member, node.name, why)
            return ""

    def _translated_function(self, source: Source, node: ast.FunctionDef | ast.AsyncFunctionDef, member: Member) -> str:
        if node.returns is None:
            raise Untranslatable("it does not say what it returns")
        is_async = isinstance(node, ast.AsyncFunctionDef)
        result = self.module.translate(source, node.returns)
        signature, arguments = self._signature(member, node, first=None)
        original = self.module.use(source.name, node.name, running=True, alias=f"async_{node.name}")
        root = self._root(member, node)
        if root is None:
            kind = self.twins.twin_of(_dotted(source, node.returns))
            if kind is None or is_async:
                raise Untranslatable("no parameter leads to a client")
            self.module.use("corral.sync.portal", "Portal", running=True)
            self.module.use("corral.sync.calls", "ThreadedClient", running=True)
            body = f"client = ThreadedClient.like({original}({', '.join(arguments)}))\n"
            body += f"return {kind.__name__}._of(Portal(client), client)"
        elif result.kind in ("iterator", "context"):
            raise Untranslatable("a function that returns what is waited for: make it a method")
        else:
            way = "call" if is_async or result.kind == "awaitable" else "run"
            body = _returning(result, f"self._portal.{way}({', '.join([original, *arguments])})")
            body = body.replace("self._portal", f"{root}._portal")
        docstring = _quoted(translate_docstring(_docstring(node)))
        return f"def {node.name}({signature}) -> {result.text}:\n" + textwrap.indent(f"{docstring}\n{body}", "    ")

    def _root(self, member: Member, node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
        """The first parameter that has a twin, and with it a portal."""
        for each in _parameters(node):
            if isinstance(each.annotation, ast.Name) and self.twins.twin_of(_dotted(member.source, each.annotation)):
                return each.arg
        return None


def _definition(function: Any) -> tuple[Source, ast.FunctionDef | ast.AsyncFunctionDef]:
    source = source_of(function.__module__)
    for each in source.tree.body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == function.__name__:
            return source, each
    raise LookupError(f"{function!r} is not defined at the top of its module")


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    return [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]


def _returning(result: Translation, expression: str) -> str:
    if result.text == "None":
        return expression
    return f"return {(result.to_twin or '{}').format(expression)}"


def _yields(node: ast.AST) -> bool:
    """Whether a function is a generator."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(child, (ast.Yield, ast.YieldFrom)) or _yields(child):
            return True
    return False


def _has_loop(node: ast.AST) -> bool:
    """Whether a function goes through something step by step, which may change meanwhile."""
    loops = (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    return any(isinstance(each, loops) for each in ast.walk(node))


# Docstrings

_WORDS: Final = (
    (re.compile(r"\b([Aa])n (``)?async (with|for)\b"), r"\1 \2\3"),
    (re.compile(r"\basync (with|for|def)\b"), r"\1"),
    (re.compile(r"\(await ((?:[^()]|\((?:[^()]|\([^()]*\))*\))*)\)(?=\.)"), r"\1"),
    (re.compile(r"\bawait (?=[\w(])"), ""),
    (re.compile(r"\b[Aa]n async(?:hronous)? (iterator|context manager)"), r"an \1"),
    (re.compile(r"\basync(?:hronous)? (iterator|context manager)"), r"\1"),
    (re.compile(r"\bcorral\.connect\b"), "corral.sync.connect"),
    (re.compile(r"\bcorral\.(client|recipes)(?:\.[a-z_]+)*\.([A-Z]\w+)"), r"corral.sync.\1.\2"),
    (re.compile(r"\basyncio client\b"), "blocking client"),
    (re.compile(r"\bfor a coroutine that\b"), "for a function that"),
    (re.compile(r"\ba coroutine function\b"), "a function"),
)
_DOCSTRING_WIDTH: Final = LINE_LENGTH - 8
_LEFT_OVER: Final = re.compile(r"\b(asyncio|await\w*|async|coroutines?)\b")


def translate_docstring(text: str) -> str:
    for pattern, replacement in _WORDS:
        text = pattern.sub(replacement, text)
    lines: list[str] = []
    overflow = ""
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        if overflow and line:
            line = f"{indent}{overflow} {line.lstrip()}"
        elif overflow:
            lines.append(overflow)
        overflow = ""
        if len(line) > _DOCSTRING_WIDTH:
            line, *rest = textwrap.wrap(line, _DOCSTRING_WIDTH, drop_whitespace=True)
            overflow = " ".join(rest)
        lines.append(line)
    return "\n".join([*lines, overflow] if overflow else lines)


def _quoted(text: str) -> str:
    end = "\n" if "\n" in text else ""
    quotes = 'r"""' if "\\" in text else '"""'
    return f'{quotes}{text}{end}"""'


# Output


def generate() -> tuple[dict[Path, str], list[str]]:
    """The generated modules, formatted, and what could not be translated."""
    twins = Twins()
    wanted = [
        ("corral.sync.client", "corral.client", "The blocking twins of :mod:`corral.client`."),
        ("corral.sync.recipes", "corral.recipes", "The blocking twins of :mod:`corral.recipes`."),
    ]
    files: dict[Path, str] = {}
    problems: list[str] = []
    for name, package, docstring in wanted:
        module = Module(name, twins)
        text = Writer(module, package).write(docstring)
        problems += module.problems
        path = ROOT / "src" / Path(*name.split(".")).with_suffix(".py")
        files[path] = _formatted(text, path)
        for number, line in enumerate(files[path].splitlines(), 1):
            if (word := _LEFT_OVER.search(line)) and "import" not in line and "async_connect" not in line:
                print(f"note: {path.name}:{number}: {word[0]!r} is left: {line.strip()}", file=sys.stderr)
    return files, problems


def _formatted(text: str, path: Path) -> str:
    ruff = Path(sysconfig.get_path("scripts"), "ruff")
    for command in (["check", "--select", "I,F401,RUF022", "--fix", "--quiet"], ["format"]):
        arguments = [str(ruff), *command, "--stdin-filename", str(path), "-"]
        done = subprocess.run(arguments, input=text, capture_output=True, text=True, cwd=ROOT, check=False)
        if done.returncode:
            raise SystemExit(f"{path.name} cannot be formatted: {done.stderr or done.stdout}")
        text = done.stdout
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the blocking twins of the client and of the recipes.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the modules are not up to date")
    options = parser.parse_args()
    files, problems = generate()
    for problem in problems:
        print(problem, file=sys.stderr)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if not options.check:
            path.write_text(files[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'not up to date' if options.check else 'written'}")
    return 1 if problems or (stale and options.check) else 0


if __name__ == "__main__":
    sys.exit(main())
