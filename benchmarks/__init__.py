"""What the package promises, measured."""
