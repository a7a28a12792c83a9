"""Fakes and conformance suites that ship: subclass a suite in your own tests."""
