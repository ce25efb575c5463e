"""Lets the reference show what docstrings say, and no type that says nothing.

Keras does not indent what follows `Example:` in a docstring; the parser of
Google docstrings takes only what is indented for part of a section. Keras has
no types, so what comes from it is `Any` in ours: the docstring says what it is.
"""

import re

import griffe

_EXAMPLE = re.compile(r"^Example:\n(?=>>>)((?:.+\n?)+)", re.MULTILINE)


def _indent(match):
    body = "".join(
        f"    {line}" for line in match.group(1).splitlines(keepends=True)
    )
    return f"Examples:\n{body}"


class ReadableReference(griffe.Extension):
    """Indents the doctests after `Example:`, and leaves out `Any`."""

    def on_object(self, *, obj, **kwargs):
        """Griffe calls this for every module, class and function."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_indent, obj.docstring.value)
        if not obj.is_function:
            return
        if str(obj.returns) == "Any":
            obj.returns = None
        for parameter in obj.parameters:
            if str(parameter.annotation) == "Any":
                parameter.annotation = None
