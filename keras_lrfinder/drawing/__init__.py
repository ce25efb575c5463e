"""Plain arrays to text and SVG, without matplotlib."""
