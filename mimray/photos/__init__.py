"""1,000 CC0 photos, the default of the demo and of the tests."""
