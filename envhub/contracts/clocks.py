"""Clocks of the machines of one run: recorded times are compared with each other, so these must nearly agree."""

MOST_S = 300.0  # apart: what a message takes on its way, and far more than clocks that are kept right


def wrong(clock: float, reference: float) -> str:
    """In words how a clock differs from that of another machine; "": not by much."""
    ahead = clock - reference
    if abs(ahead) <= MOST_S:
        return ""
    return f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'}"
