"""Every small change of a module that its tests should notice, as a change of its text."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "argmin": "argmax",
    "argmax": "argmin",
    "clamp_min": "clamp_max",
    "maximum": "minimum",
    "sqrt": "square",
    "square": "sqrt",
    "undesired": "desired",
    "desired": "undesired",
    "low": "high",
    "high": "low",
}
SCOPES = ("edits:read", "edits:write", "models:generate", "admin")
PRINCIPALS = ("Reader", "Writer", "Caller", "Admin", "Operator")
"""Annotations that say which scope a route needs."""


@dataclass(frozen=True)
class Mutant:
    """A changed module."""

    path: str
    line: int
    """In the file as it is, from 1."""
    before: str
    after: str
    """The whole text."""

    @property
    def diff(self) -> str:
        old, new = (text.splitlines() for text in (self.before, self.after))
        return "\n".join(difflib.unified_diff(old, new, self.path, self.path, lineterm="", n=0))

    @property
    def changed(self) -> str:
        """The lines that are new, as one without space around it."""
        added = [line[1:].strip() for line in self.diff.splitlines()[2:] if line.startswith("+")]
        return " ".join(added)


def mutants(path: str, text: str, *, scopes_only: bool = False) -> list[Mutant]:
    """All mutants of a module, in the order of its lines; no two have the same text.

    Args:
        path: of the file, for people.
        text: what it holds.
        scopes_only: change nothing but the scopes that routes need.
    """
    source = text.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, Mutant] = {}
    tree = ast.parse(text)
    for node, replacement in _of_principals(tree) if scopes_only else _changes(tree):
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[node.end_lineno - 1] + node.end_col_offset
        changed = (source[:begin] + replacement.encode() + source[end:]).decode()
        if changed != text:
            found.setdefault(changed, Mutant(path, node.lineno, text, changed))
    return sorted(found.values(), key=lambda one: one.line)


Located = ast.expr | ast.stmt
Change = tuple[Located, str]
"""What is replaced, and by which text."""


def _changes(tree: ast.Module) -> Iterator[Change]:
    for node in _visited(tree):
        if isinstance(node, ast.expr):
            yield from ((node, f"({text})") for text in _of_expression(node))
        elif isinstance(node, ast.stmt):
            yield from ((node, text) for text in _of_statement(node))
    yield from _of_principals(tree)


def _visited(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but annotations, docstrings, messages and what decorates."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        if isinstance(node, ast.Raise) and name == "exc":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                yield from _visited(child)


def _of_expression(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS.get(type(operator), ()):
                ops = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                yield ast.unparse(ast.Compare(node.left, ops, node.comparators))
    elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        yield ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))
    elif isinstance(node, ast.BoolOp):
        swapped = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.unparse(ast.BoolOp(swapped, node.values))
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            yield ast.unparse(node.operand)
    elif isinstance(node, ast.IfExp):
        yield ast.unparse(node.body)
        yield ast.unparse(node.orelse)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node.value)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in _NAMES:
        yield _NAMES[node.id]
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and node.attr in _NAMES:
        yield ast.unparse(ast.Attribute(node.value, _NAMES[node.attr], ast.Load()))


def _of_constant(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield str(not value)
    elif isinstance(value, int):
        yield str(value + 1)
        yield str(value - 1)
    elif isinstance(value, float):
        yield repr(value + 1)
        if value:
            yield repr(value / 2)
    elif value in SCOPES:
        yield repr(SCOPES[SCOPES.index(str(value)) - 1])


def _of_statement(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.Return) and node.value is not None:
        yield "return None"
    elif isinstance(node, ast.AugAssign):
        if type(node.op) in _OPERATORS:
            other = _OPERATORS[type(node.op)]()
            yield ast.unparse(ast.AugAssign(node.target, other, node.value))
        yield "pass"
    elif isinstance(node, ast.Raise | ast.Continue | ast.Break) or _is_call(node):
        yield "pass"


def _is_call(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)


def _of_principals(tree: ast.Module) -> Iterator[Change]:
    """Another scope for a route, by the annotation of its parameter."""
    nodes = list(ast.walk(tree))
    known = {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    there = [name for name in PRINCIPALS if name in known]
    for node in nodes:
        own = node.annotation if isinstance(node, ast.arg) else None
        if isinstance(own, ast.Name) and own.id in there:
            yield own, there[there.index(own.id) - 1]
