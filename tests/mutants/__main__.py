"""Change the product a little, again and again, and count how often its tests notice.

Each mutant is tried in a fork of this process, which has loaded all that does not depend on the
changed module, so that it costs little more than the tests themselves. Files are left as they are.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

import hypothesis
import pytest

from tests.mutants.changes import Mutant, mutants
from tests.mutants.targets import AREAS, EQUIVALENT, Target

LEAST = 0.9
"""Share of the mutants that must be noticed."""
_PRODUCT = ("app", "benchmarks", "models_store", "workers")
_OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider"),
    "-Wignore:Module already imported:pytest.PytestAssertRewriteWarning",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--sample", type=int, default=200, help="mutants to try; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--area", choices=AREAS, help="only these modules")
    parser.add_argument("--path", default="", help="only modules whose path holds this")
    wanted = parser.parse_args()
    areas = {area: own for area, own in AREAS.items() if wanted.area in (None, area)}
    candidates = [
        (area, target, mutant)
        for area, targets in areas.items()
        for target in targets
        if wanted.path in target.path
        for mutant in _mutants_of(target)
    ]
    if 0 < wanted.sample < len(candidates):
        chosen = random.Random(wanted.seed).sample(range(len(candidates)), wanted.sample)
        candidates = [candidates[place] for place in sorted(chosen)]
    print(f"{len(candidates)} mutants", flush=True)
    _load({test for _, target, _ in candidates for test in target.tests})
    tried, killed = Counter[str](), Counter[str]()
    limits: dict[str, float] = {}
    for area, target, mutant in candidates:
        if target.path not in limits:
            limits[target.path] = _limit(target)
        noticed = _noticed(target, mutant, limits[target.path])
        for name in (area, target.path):
            tried[name] += 1
            killed[name] += noticed
        if not noticed:
            print(f"\nSURVIVED at {mutant.path}:{mutant.line}\n{mutant.diff}\n", flush=True)
    for name in tried:
        print(f"{killed[name]:5} of {tried[name]:5} noticed  {name}")
    total = sum(killed[area] for area in areas), sum(tried[area] for area in areas)
    share = total[0] / max(1, total[1])
    print(f"{total[0]} of {total[1]} noticed: {100 * share:.1f} % (at least {100 * LEAST:.0f} %)")
    return 0 if share >= LEAST else 1


def _load(tests: Collection[str]) -> None:
    """Import here, but for the tests themselves, what a fork imports to collect them."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as names:
        child = os.fork()
        if child == 0:
            _quietly()
            pytest.main([*_OPTIONS, "--collect-only", *sorted(tests)])
            Path(names.name).write_text("\n".join(sys.modules), encoding="utf-8")
            os._exit(0)
        os.waitpid(child, 0)
        for name in names.read().split():
            if not name.startswith("tests"):
                with contextlib.suppress(Exception):
                    importlib.import_module(name)
    # The same examples each time, no search for a smaller one, and nothing kept of it.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, phases=phases, deadline=None
    )
    hypothesis.settings.load_profile("mutants")


def _unload(name: str) -> None:
    """Forget a module and all modules that import it, so that they are imported anew."""
    imports = {
        other: _imported(Path(module.__file__))
        for other, module in sys.modules.items()
        if other.split(".")[0] in _PRODUCT and getattr(module, "__file__", None)
    }
    stale = {name}
    while more := {other for other, own in imports.items() if own & stale} - stale:
        stale |= more
    for other in stale:
        sys.modules.pop(other, None)
        package, _, last = other.rpartition(".")
        if package in sys.modules:
            vars(sys.modules[package]).pop(last, None)


@cache
def _imported(file: Path) -> frozenset[str]:
    """Names of the modules that a module may import, and of what it imports from them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _mutants_of(target: Target) -> list[Mutant]:
    """Those that can be noticed."""
    text = Path(target.path).read_text(encoding="utf-8")
    every = mutants(target.path, text, scopes_only=target.scopes_only)
    return [one for one in every if one.changed not in EQUIVALENT.get(target.path, {})]


def _limit(target: Target) -> float:
    """Seconds that the tests may take, by what they take when nothing is changed.

    From here on this process has not loaded the module any more.
    """
    _unload(_name_of(target.path))
    started = time.monotonic()
    if _run(target, None, 600) != 0:
        raise SystemExit(f"the tests of {target.path} fail already: {' '.join(target.tests)}")
    return 30 + 5 * (time.monotonic() - started)


def _noticed(target: Target, mutant: Mutant, limit: float) -> bool:
    """Whether a test fails; one that does not end has noticed it too."""
    return _run(target, mutant, limit) != 0


def _run(target: Target, mutant: Mutant | None, limit: float) -> int:
    """Exit code of the tests in a fork; not 0 where they do not end in time."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = _tests(target.tests, mutant)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return _ended(child, limit)


def _ended(child: int, limit: float) -> int:
    until = time.monotonic() + limit
    while time.monotonic() < until:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return 0 if status == 0 else 1
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return 1


def _tests(paths: Sequence[str], mutant: Mutant | None) -> int:
    os.setsid()
    sys.dont_write_bytecode = True
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant))
        _quietly()
    return int(pytest.main([*_OPTIONS, *paths]))


def _quietly() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)


def _name_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the changed module in place of the one on disk."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        self._name = _name_of(mutant.path)

    def find_spec(
        self, fullname: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        file = str(Path(self._mutant.path).resolve())
        loader = _Loader(fullname, file, self._mutant.after)
        return importlib.util.spec_from_file_location(fullname, file, loader=loader)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code


if __name__ == "__main__":
    sys.exit(main())
