"""Amounts as people read them: three digits and the unit that fits, never a rounded zero."""

_BYTE_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")
_TIME_UNITS = (("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def bytes_text(count: float) -> str:
    """As 1.23 MB."""
    for unit in _BYTE_UNITS:
        if count < 999.5 or unit == _BYTE_UNITS[-1]:
            break
        count /= 1000
    return f"{count:.3g} {unit}"


def time_text(seconds: float) -> str:
    """As 4.5 hours; seconds of less than one are so."""
    for unit, length in _TIME_UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return "1 second" if seconds >= 1 else "less than a second"
