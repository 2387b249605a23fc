"""What a checkout of FINN asks for: Xilinx/finn in its requirements.txt, finn-plus in its pyproject.toml.

Left out is what names no version of the package index: a folder, a commit or a file (``path``, ``git``, ``url``,
``file``), what is optional, and groups of development tools.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from qnn.errors import FinnUnavailable

__all__ = ["FILES", "Pins", "read_pins"]

FILES = ("requirements.txt", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Pins:
    """The environment that a checkout asks for."""

    python: SpecifierSet
    requirements: tuple[Requirement, ...]


def _of_pip(path: Path) -> Iterator[Requirement]:
    for line in path.read_text().splitlines():
        try:
            yield Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue  # a comment, an empty line, an option of pip


def _below(release: str, kept: int) -> str:
    """The first release that differs in its first `kept` numbers: ``1.3`` of 1.2.5 and 2."""
    numbers = [*Version(release).release, 0, 0][:kept]
    return ".".join(map(str, [*numbers[:-1], numbers[-1] + 1]))


def _constraint(text: str) -> str:
    """One of Poetry's constraints as PEP 440 has it."""
    if text == "*":
        return ""
    if text.startswith("^"):  # all up to the first number that is not 0 stay
        numbers = Version(text[1:]).release
        kept = next((k for k, number in enumerate(numbers) if number), len(numbers) - 1) + 1
        return f">={text[1:]},<{_below(text[1:], kept)}"
    if re.match(r"~[^=]", text):
        release = text[1:].strip()
        return f">={release},<{_below(release, min(2, len(Version(release).release)))}"
    return text if text[0] in "<>=!~" else f"=={text}"


def _specifier(version: str) -> str:
    return ",".join(filter(None, (_constraint(part.strip()) for part in version.split(","))))


def _of_poetry(dependencies: Mapping[str, Any]) -> Iterator[Requirement]:
    for name, stated in dependencies.items():
        for one in stated if isinstance(stated, list) else [stated]:
            fields = {"version": one} if isinstance(one, str) else one
            if name == "python" or "version" not in fields or fields.get("optional"):
                continue
            extras = f"[{','.join(fields['extras'])}]" if fields.get("extras") else ""
            pythons = SpecifierSet(_specifier(fields.get("python", "*")))
            markers = [f"python_full_version {python.operator} '{python.version}'" for python in pythons]
            markers += [f"({fields['markers']})"] if "markers" in fields else []
            marker = f"; {' and '.join(markers)}" if markers else ""
            yield Requirement(f"{name}{extras}{_specifier(fields['version'])}{marker}")


def read_pins(checkout: Path) -> Pins:
    """The pins of the checkout in a folder, which may state none. Raises FinnUnavailable where they cannot be read."""
    requirements, pyproject = (checkout / name for name in FILES)
    found = list(_of_pip(requirements)) if requirements.exists() else []
    if not pyproject.exists():
        return Pins(python=SpecifierSet(), requirements=tuple(found))
    try:
        record = tomllib.loads(pyproject.read_text())
        project = record.get("project", {})
        poetry = record.get("tool", {}).get("poetry", {}).get("dependencies", {})
        if "dependencies" in project:
            found += map(Requirement, project["dependencies"])
        else:
            found += _of_poetry(poetry)
        python = SpecifierSet(project.get("requires-python") or _specifier(poetry.get("python", "*")))
    except (ValueError, AttributeError, TypeError) as error:
        raise FinnUnavailable(f"{pyproject} states no pins that can be read: {error}") from None
    return Pins(python=python, requirements=tuple(found))
