from envhub.toolsets.docstring import Docstring


def test_text_without_sections_is_the_summary():
    assert Docstring.parse("One line.\n\n    And more.") == Docstring("One line.\n\nAnd more.")


def test_arguments_are_read_and_other_sections_left_out():
    parsed = Docstring.parse("""Find things.

        Args:
            query: What to look for: words
                or a phrase.
            limit (int, optional): How many.

        Raises:
            ValueError: never.
        """)
    assert parsed.summary == "Find things."
    assert parsed.parameters == {"query": "What to look for: words or a phrase.", "limit": "How many."}


def test_empty_docstring_says_nothing():
    assert Docstring.parse("") == Docstring()
