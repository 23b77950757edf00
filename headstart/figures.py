"""Figures as people read them: shares with three decimals, larger numbers with fewer."""


def figure(value: float, *, signed: bool = False) -> str:
    """Format a figure of any unit: three decimals below 100, and less where they would say nothing."""
    size, sign = abs(value), "+" if signed else ""
    if size >= 1000:
        return f"{value:{sign},.0f}"
    return f"{value:{sign}.{1 if size >= 100 else 3}f}"
