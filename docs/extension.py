"""Lets the reference show what docstrings say, and no type that says nothing.

Keras does not indent what follows `Example:` in a docstring; the parser of
Google docstrings takes only what is indented for part of a section. Keras has
no types, so what comes from it is `Any` in ours, and here what it is.
"""

import re

import griffe

_EXAMPLE = re.compile(r"^Example:\n(?=>>>)((?:.+\n?)+)", re.MULTILINE)

_TYPES = {
    "ax": "Axes | None",
    "model": "Model",
    "optimizer": "Optimizer | str | None",
    "plot": "Axes",
    "validation": "tuple | None",
}


def _known(name, annotation):
    return _TYPES.get(name) if str(annotation) == "Any" else annotation


def _indent(match):
    body = "".join(
        f"    {line}" for line in match.group(1).splitlines(keepends=True)
    )
    return f"Examples:\n{body}"


class ReadableReference(griffe.Extension):
    """Indents the doctests after `Example:`, and knows what `Any` is."""

    def on_object(self, *, obj, **kwargs):
        """Griffe calls this for every module, class and function."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_indent, obj.docstring.value)
        if obj.is_function:
            obj.returns = _known(obj.name, obj.returns)
            for one in obj.parameters:
                one.annotation = _known(one.name, one.annotation)
