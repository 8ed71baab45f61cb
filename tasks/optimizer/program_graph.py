"""Check the JSON inside an exported program, before PyTorch reads it.

PyTorch's reader trusts it: shape expressions go through ``sympy.sympify`` (an ``eval``), guards and argument names
become Python source, a node's target may be any callable reachable from ``torch``. So every string is held to what
``torch.export.save`` writes for plain tensor programs, and what is only for people (stack traces) is left out.

Source: torch/_export/serde/schema.py and serialize.py of PyTorch 2.13.
"""

import json
import re
from collections.abc import Callable
from typing import Any

from registry.errors import InputError

_NAME = re.compile(r"[\w.\-]*")
_OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed)\.\w+(\.\w+)?"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift|getitem)"
    r"|torch\.sym_(not|int|float|ite|max|min|sqrt)|math\.trunc"
)
_FILE_OPERATORS = re.compile(r"torch\.ops\.aten\.(from_file|save)\b.*")
_TOKEN = re.compile(
    r"\s*(?:\d+(?:\.\d*)?(?:e[+-]?\d+)?|(?P<word>[A-Za-z_]\w*)|'(?:z?[suf]{1,2}\d+|[\d.e+-]+)'"
    r"|\*\*|//|[<>=!]=|[+\-*/%(),<>&|~=])\s*"
)
_EXPRESSION_WORD = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Equality|Unequality|StrictGreaterThan|StrictLessThan|GreaterThan|LessThan"
    "|And|Or|Not|Max|Min|FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift"
    "|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
    "|positive|negative|nonnegative|nonpositive|integer|real|finite|zero|nonzero|precision|[Tt]rue|[Ff]alse|oo|int_oo"
    r"|z?[suf]{1,2}\d+"
)
_TREE_TYPES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
_MODULE_STACK = re.compile(r"[\w.,;@\-<>\[\]() ]*")
_MAX_TEXT = 10_000
_MAPPING = re.compile(
    r"(tensor|sym_int|sym_bool|sym_float)_values|range_constraints|opset_version|config|as_string_to_argument"
)
"""Objects whose keys are names given by the program, not fields of the schema."""
_REFUSED = {
    "as_custom_obj": "a script object",
    "custom_obj": "a script object",
    "custom_obj_values": "a script object",
    "token": "an effect token",
    "treespec_namedtuple_fields": "a named tuple",
}


def parse_json(text: bytes, member: str) -> Any:  # noqa: ANN401  JSON
    """Parse one JSON member.

    Raises:
        InputError: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"its member {member} is not valid JSON: {error}") from error


def clean_graph(graph: Any) -> bytes:  # noqa: ANN401  JSON
    """Check a parsed ``models/model.json`` and return it without traces, guards and other things not needed to run.

    Raises:
        InputError: it holds something that ``torch.export.save`` does not write for a plain tensor program.
    """
    if not isinstance(graph, dict) or not isinstance(graph.get("graph_module"), dict):
        raise InputError("its models/model.json is not an exported program's graph")
    graph["guards_code"] = []
    graph["graph_module"]["metadata"] = {}
    _check(graph)
    return json.dumps(graph).encode()


def check_payloads(config: Any, member: str) -> set[str]:  # noqa: ANN401  JSON
    """Check a weights or constants list and return the members that it names.

    Raises:
        InputError: a payload is pickled or named out of the ordinary.
    """
    entries = config.get("config") if isinstance(config, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"its member {member} is not a list of weights")
    named = set()
    for name, entry in entries.items():
        if not isinstance(entry, dict) or entry.get("use_pickle") is not False:
            raise InputError(
                f"the weight or constant {name!r} is pickled, and unpickling runs code; keep only plain tensors "
                "in the module and export it again"
            )
        named.add(str(entry.get("path_name")))
    _check(config)
    return named


def _check(root: Any) -> None:  # noqa: ANN401  JSON
    pending: list[tuple[str, Any]] = [("", root)]
    while pending:
        key, value = pending.pop()
        if isinstance(value, dict):
            pending.extend(_children(key, value))
        elif isinstance(value, list):
            pending.extend((key, item) for item in value)
        elif isinstance(value, str):
            _CHECKS.get(key, _check_name)(value)


def _children(key: str, value: dict[str, Any]) -> list[tuple[str, Any]]:
    for name in value:
        _check_name(name)
    if _MAPPING.fullmatch(key):
        return [("", child) for child in value.values()]
    for name, what in _REFUSED.items():
        if value.get(name):
            raise InputError(f"it holds {what}; Burnish takes programs of plain tensors only")
    device = value.get("device")
    if isinstance(device, dict) and device.get("type") != "cpu":
        raise InputError(
            f"it was exported on {device.get('type')!r}; move module and inputs to the CPU and export again"
        )
    if "target" in value:
        value["metadata"] = _clean_metadata(value.get("metadata"))
    return [(name, child) for name, child in value.items() if name != "metadata" or "target" not in value]


def _clean_metadata(metadata: Any) -> dict[str, str]:  # noqa: ANN401  JSON
    stack = metadata.get("nn_module_stack") if isinstance(metadata, dict) else None
    return {"nn_module_stack": stack} if isinstance(stack, str) and _MODULE_STACK.fullmatch(stack) else {}


def _check_name(text: str) -> None:
    if not _NAME.fullmatch(text):
        raise InputError(f"it holds the name {text[:80]!r}, which torch.export does not write")


def _check_operator(text: str) -> None:
    if not _OPERATOR.fullmatch(text) or _FILE_OPERATORS.fullmatch(text):
        raise InputError(
            f"it calls {text[:120]!r}, which is not one of PyTorch's tensor operators; Burnish takes programs of plain "
            "ATen operators only"
        )


def _check_expression(text: str) -> None:
    position = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        word = token.group("word") if token else None
        known = word is None or _EXPRESSION_WORD.fullmatch(word)
        if not token or not known or len(text) > _MAX_TEXT:
            raise InputError(f"it holds the shape expression {text[:120]!r}, which torch.export does not write")
        position = token.end()


def _check_text(text: str) -> None:
    if len(text) > _MAX_TEXT:
        raise InputError(f"it holds a text of {len(text)} characters as an argument; the limit is {_MAX_TEXT}")


def _check_version(text: str) -> None:
    if not re.fullmatch(r"[\w.+\-<=]*", text):
        raise InputError(f"it holds the version {text[:80]!r}, which torch.export does not write")


def _check_tree(text: str) -> None:
    tree = parse_json(text.encode(), "tree of arguments")
    pending: list[Any] = [tree[1]] if isinstance(tree, list) and len(tree) == 2 else [None]
    while pending:
        node = pending.pop()
        node = node if isinstance(node, dict) else {}
        kind, children = node.get("type", "nothing"), node.get("children_spec")
        if not isinstance(children, list) or not isinstance(kind, str | None) or kind not in _TREE_TYPES:
            raise InputError(
                f"its arguments or results hold {str(kind)[:80]!r}; take and return tensors in tuples, lists and "
                "dictionaries only"
            )
        _check_context(node.get("context"))
        pending.extend(children)


def _check_context(context: Any) -> None:  # noqa: ANN401  JSON
    keys = parse_json(context.encode(), "tree of arguments") if isinstance(context, str) else context
    plain = keys is None or (
        isinstance(keys, list) and all(isinstance(key, str) and _NAME.fullmatch(key) for key in keys)
    )
    if not plain:
        raise InputError(f"its arguments or results have the names {str(keys)[:80]!r}; use plain words")


_CHECKS: dict[str, Callable[[str], None]] = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "as_string": _check_text,
    "as_strings": _check_text,
    "torch_version": _check_version,
}
