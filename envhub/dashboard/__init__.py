"""The page over a trace store: its JSON API, its live events, and the built web page."""
