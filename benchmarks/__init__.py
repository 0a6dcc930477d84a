"""Measurements of what the tool makes. Each module is a command; tables land in docs/."""
