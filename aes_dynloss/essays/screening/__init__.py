"""What should keep a reader from believing an essay's score: found from its text alone, fast, without torch."""
