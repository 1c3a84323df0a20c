"""The words of verbs that have many, a verb to a file: `add_words(parser)`. Nothing heavy is imported."""
