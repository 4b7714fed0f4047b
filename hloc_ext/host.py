"""Registration in HLOC hosts (placeholder until the registry lands)."""


def register() -> None:
    """Register nothing yet."""
