"""Every message that a user can meet, word by word and with its numbers.

The tables `messages_of_*` hold a mistake for each `raise` and each warning of the package, and what
is answered. A message without an entry there is found below, in the source.
"""

import ast
import re
from pathlib import Path

import pytest
from message_makers import said
from messages_of_models import MESSAGES as OF_MODELS
from messages_of_rows import MESSAGES as OF_ROWS
from messages_of_tools import MESSAGES as OF_TOOLS

import mtds_sklearn

PACKAGE = Path(mtds_sklearn.__file__).parent
TABLE = {**OF_ROWS, **OF_MODELS, **OF_TOOLS}
NUMBER = r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?"

# Raised for those who write a part of this package, raised again, or told inside another message.
NOT_FOR_USERS = {
    ("_transforms.py", "NotImplementedError"),
    ("_threads.py", "failures[0]"),
    ("_values.py", "ValueError('Complex data not supported')"),
}


def pattern_of(text: str) -> re.Pattern:
    """The text, in which <number> is any number."""
    return re.compile(re.escape(text).replace("<number>", NUMBER))


@pytest.fixture(autouse=True)
def no_screen(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("what", TABLE)
def test_a_mistake_is_answered_with_its_numbers(what):
    act, kind, text = TABLE[what]
    found_kind, found = said(act)
    assert pattern_of(text).fullmatch(found), found
    assert issubclass(found_kind, kind)


def test_no_entry_hides_another():
    assert len(TABLE) == len(OF_ROWS) + len(OF_MODELS) + len(OF_TOOLS)


# ------------------------------------------------------------------------------- all of them


def messages_in(source: str) -> list[tuple[int, str, re.Pattern | None]]:
    """Line, code and pattern of each message that is raised or given as a warning.

    What an f-string fills in may be anything; the pattern is None where the text is no literal.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Raise) and node.exc is not None:
            said_by = node.exc
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "warn_caller":
            said_by = node
        else:
            continue
        text = said_by.args[0] if isinstance(said_by, ast.Call) and said_by.args else None
        found.append((node.lineno, ast.unparse(said_by), literal_pattern(text)))
    return found


def literal_pattern(text: ast.expr | None) -> re.Pattern | None:
    parts = text.values if isinstance(text, ast.JoinedStr) else [text]
    if not all(isinstance(part, ast.Constant | ast.FormattedValue) for part in parts):
        return None
    filled = [re.escape(p.value) if isinstance(p, ast.Constant) else ".+" for p in parts]
    return re.compile("".join(filled), re.DOTALL)


def untested(path: str, source: str, texts: list[str]) -> list[str]:
    """The messages of a source file that are none of the texts."""
    return [
        f"{path}:{line}: {code}"
        for line, code, pattern in messages_in(source)
        if (path, code) not in NOT_FOR_USERS
        and (pattern is None or not any(map(pattern.fullmatch, texts)))
    ]


def package_files() -> list[str]:
    """All files but those of the kernels, which complain to whoever writes one."""
    paths = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")]
    return sorted(path for path in paths if not path.startswith("kernels/"))


@pytest.mark.parametrize("path", package_files())
def test_every_message_of_the_source_is_in_a_table(path):
    """Where this fails, add to `messages_of_*` a mistake that is answered with the new message."""
    texts = [text for _, _, text in TABLE.values()]
    assert untested(path, (PACKAGE / path).read_text("utf-8"), texts) == []


def test_a_new_message_is_found():
    source = (
        "def f(n):\n"
        "    if n < 0:\n"
        "        raise ValueError(f'f: n must be at least 0, got {n}')\n"
        "    warn_caller('f: n is ' f'{n}')\n"
        "    raise TypeError(message)\n"
    )
    assert untested("f.py", source, ["f: n must be at least 0, got -1", "f: n is 3"]) == [
        "f.py:5: TypeError(message)"
    ]
    assert len(untested("f.py", source, ["f: n must be at least 1, got -1"])) == 3


def test_warnings_are_given_in_one_way_only():
    """Else the tables would not know of them, and they would show lines of this package."""
    for path in package_files():
        if path != "_warnings.py":
            assert "warnings.warn(" not in (PACKAGE / path).read_text("utf-8"), path
