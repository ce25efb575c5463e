"""Pictures and reports of a range test."""
