"""The house rules that code can hold: imports point one way, trace bodies name only what a server has."""

from __future__ import annotations

import ast
import builtins
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"]
"""Package -> folder of the repository."""

ORDER = (
    ("patchboard.errors", "patchboard.registry", "patchboard.user_paths"),
    ("patchboard.cli.arguments",),
    ("patchboard.hub",),
    ("patchboard.spec",),
    ("patchboard.tasks",),
    ("patchboard.ops", "patchboard.metrics"),
    ("patchboard.vectors",),
    ("patchboard.plan",),
    ("patchboard.engine",),
    ("patchboard.store",),
    ("patchboard.measure",),
    ("patchboard.report",),
    ("patchboard.track",),
    ("patchboard.execution",),
    ("patchboard.cli",),
    ("patchboard.lab",),
    ("patchboard.sweep",),
    ("patchboard.recipes", "patchboard.emit"),
    ("patchboard.commands", "patchboard.__main__"),
    ("patchboard.experiments",),
)
"""Each module may import from its own entry and from those before it."""

LIGHT = ("patchboard.errors", "patchboard.registry", "patchboard.spec", "tasks", "patchboard.plan.validate")
"""What `patchboard validate` needs: none of it may import torch at its top."""
HEAVY = ("torch", "transformers", "nnsight", "sklearn", "matplotlib", "datasets", "wandb", "optuna")


def rank_of(module: str) -> int | None:
    found = [
        (len(prefix), rank)
        for rank, prefixes in enumerate(ORDER)
        for prefix in prefixes
        if module == prefix or module.startswith(prefix + ".")
    ]
    return max(found)[1] if found else None


def modules() -> list[tuple[str, ast.Module]]:
    return [
        (".".join((package, *file.relative_to(ROOT / folder).with_suffix("").parts)).removesuffix(".__init__"),
         ast.parse(file.read_text()))
        for package, folder in FOLDERS.items()
        for file in (ROOT / folder).glob("**/*.py")
    ]  # fmt: skip


def imports_of(tree: ast.AST) -> set[str]:
    """Modules that are imported anywhere in the tree, `from x import y` as x and x.y."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def violations(name: str, tree: ast.Module) -> list[str]:
    own = rank_of(name)
    if own is None:
        return []
    out = []
    for imported in imports_of(tree):
        rank = rank_of(imported)
        if rank is not None and rank > own:
            out.append(f"{name} imports {imported}")
    return out


def test_imports_point_one_way():
    assert [v for name, tree in modules() for v in violations(name, tree)] == []


def test_the_import_test_sees_a_violation():
    assert violations("patchboard.ops.patch", ast.parse("from patchboard.engine.local import LocalEngine"))
    assert violations("patchboard.tasks.base", ast.parse("def f():\n    import patchboard.cli.guard"))


def test_every_module_has_a_place_in_the_order():
    unplaced = [n for n, _ in modules() if rank_of(n) is None]
    assert sorted(n for n in unplaced if not n.startswith("patchboard.embedded")) == ["patchboard"]


def top_level_imports(tree: ast.Module) -> set[str]:
    kept = [n for n in tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return imports_of(ast.Module(body=kept, type_ignores=[]))


def test_validating_imports_nothing_heavy():
    for name, tree in modules():
        if name.startswith(LIGHT):
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


ALLOWED_IN_TRACE = {"captured", "apply_edits", "score_reads", "states_at", "narrowed", "grown_inputs"}
"""Our own helpers that a body may call: they take and give tensors, and live in modules that travel by value."""


def foreign_names(function: ast.FunctionDef, body: ast.With) -> set[str]:
    """Names that the body reads and that are neither made in the function, nor builtins, nor allowed."""
    made = {a.arg for a in [*function.args.args, *function.args.kwonlyargs]}
    made |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    read = {n.id for n in ast.walk(body) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    return read - made - set(dir(builtins)) - ALLOWED_IN_TRACE - {"torch"}


def test_trace_bodies_name_only_tensors_and_plain_data():
    bodies = [(name, *found) for name, tree in modules() for found in trace_bodies(tree)]
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
    for name, tree in modules():
        assert "save" not in names_given_to_objects(tree), name
