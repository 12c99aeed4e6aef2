"""The house rules that code can hold: imports point one way, trace bodies name only what a server has."""

from __future__ import annotations

import ast
import builtins
import runpy
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = runpy.run_path(str(ROOT / "docs" / "rooms.py"))
MODULES: dict[str, ast.Module] = ROOMS["modules"]()
RANKS = {room: rank for rank, row in enumerate(ROOMS["order"]()) for room in row}
"""Room -> its row in the table of docs/architecture.md."""
imports_of, room_of = ROOMS["imports_of"], ROOMS["room_of"]

LIGHT = ("errors", "registry", "spec", "tasks")
"""What `patchboard validate` needs, beside ``plan.validate``: none of it may import torch at its top."""
HEAVY = ("torch", "transformers", "nnsight", "sklearn", "matplotlib", "datasets", "wandb", "optuna")


def violations(name: str, tree: ast.AST) -> list[str]:
    """Imports from a room that does not stand before the module's own."""
    room = room_of(name)
    ours = {imported for imported in imports_of(tree) if imported.startswith("patchboard.")}
    return [
        f"{name} imports {imported}"
        for imported in ours
        if (other := room_of(imported)) in RANKS and other != room and RANKS[other] >= RANKS.get(room, len(RANKS))
    ]


def test_imports_point_one_way():
    assert [v for name, tree in MODULES.items() for v in violations(name, tree)] == []


def test_the_import_test_sees_a_violation():
    assert violations("patchboard.ops.patch", ast.parse("from patchboard.engine.local import LocalEngine"))
    assert violations("patchboard.ops.patch", ast.parse("from patchboard.metrics import METRICS"))
    assert violations("patchboard.tasks.base", ast.parse("def f():\n    import patchboard.cli.guard"))


def test_every_room_has_a_place_in_the_order():
    assert {room_of(name) for name in MODULES} - {"patchboard", "__main__"} == set(RANKS)


def circle(imports: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other, straight or through others; none where there are none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def at_run_time(tree: ast.Module) -> ast.Module:
    """The module without what it imports for annotations alone."""
    kept = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING")]
    return ast.Module(body=kept, type_ignores=[])


def test_no_module_imports_itself_through_others():
    assert circle({"a": {"b"}, "b": {"a"}}) and not circle({"a": {"b"}, "b": set()})
    # not the packages that it lies in: `from package import module` names the package too
    own = {
        name: {i for i in imports_of(at_run_time(tree)) & MODULES.keys() if i != name and not name.startswith(f"{i}.")}
        for name, tree in MODULES.items()
    }
    assert circle(own) == []


def test_the_picture_is_of_these_imports():
    assert ROOMS["PICTURE"].read_text() == ROOMS["picture"](), "draw it again: python docs/rooms.py"


def top_level_imports(tree: ast.Module) -> set[str]:
    kept = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return imports_of(ast.Module(body=kept, type_ignores=[]))


def test_validating_imports_nothing_heavy():
    for name, tree in MODULES.items():
        if room_of(name) in LIGHT or name == "patchboard.plan.validate":
            assert not {i.split(".")[0] for i in top_level_imports(tree)} & set(HEAVY), name


def trace_bodies(tree: ast.AST) -> list[tuple[ast.FunctionDef, ast.With]]:
    """Every `with ….trace(…):` with the function around it."""
    return [
        (function, node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.With) and any(".trace(" in ast.unparse(item.context_expr) for item in node.items)
    ]


ALLOWED_IN_TRACE = {
    "captured", "apply_edits", "score_reads", "read_logits", "read_states", "logits_behind", "states_at", "narrowed",
    "grown_inputs", "source_states", "without_edges", "changed", "states_of", "entered", "estimated", "is_input",
    "is_pattern", "mixed_values", "seen_at", "site_of", "summed", "tensor_at", "copy_input",
}  # fmt: skip
"""Our own helpers that a body may call: they take and give tensors, and live in modules that travel by value."""


def foreign_names(function: ast.FunctionDef, body: ast.With) -> set[str]:
    """Names that the body reads and that are neither made in the function, nor builtins, nor allowed."""
    made = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
    made |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    read = {n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return read - made - set(dir(builtins)) - ALLOWED_IN_TRACE - {"torch"}


def test_trace_bodies_name_only_tensors_and_plain_data():
    bodies = [(name, *found) for name, tree in MODULES.items() for found in trace_bodies(tree)]
    assert bodies, "no trace found: the test reads nothing"
    for name, function, body in bodies:
        assert foreign_names(function, body) == set(), f"{name}.{function.name}"


def test_the_trace_test_sees_a_foreign_name():
    tree = ast.parse("def f(model):\n    with model.trace(1):\n        x = tokenizer.decode(model.output)\n")
    ((function, body),) = trace_bodies(tree)
    assert foreign_names(function, body) == {"tokenizer"}


def names_given_to_objects(tree: ast.AST) -> set[str]:
    """Fields of classes, and attributes that are assigned."""
    fields = {
        target.id
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for line in owner.body
        for target in ([line.target] if isinstance(line, ast.AnnAssign) else getattr(line, "targets", []))
        if isinstance(target, ast.Name)
    }
    assigned = (n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
    return fields | set(assigned)


def test_no_field_is_called_save():
    """nnsight mounts `save` on object; a field or an attribute of that name breaks it."""
    planted = ast.parse("class A:\n    save: int\n"), ast.parse("def f(x):\n    x.save = 1\n")
    assert all("save" in names_given_to_objects(tree) for tree in planted)
    for name, tree in MODULES.items():
        assert "save" not in names_given_to_objects(tree), name
