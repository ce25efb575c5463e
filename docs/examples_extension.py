"""Lets the reference show examples that are written as Keras writes them.

Keras does not indent what follows `Example:` in a docstring; the parser of
Google docstrings takes only what is indented for part of a section.
"""

import re

import griffe

_EXAMPLE = re.compile(r"^Example:\n(?=>>>)((?:.+\n?)+)", re.MULTILINE)


def _indent(match):
    body = "".join(
        f"    {line}" for line in match.group(1).splitlines(keepends=True)
    )
    return f"Examples:\n{body}"


class IndentExamples(griffe.Extension):
    """Indents the doctests after `Example:`."""

    def on_object(self, *, obj, **kwargs):
        """Griffe calls this for every module, class and function."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_indent, obj.docstring.value)
