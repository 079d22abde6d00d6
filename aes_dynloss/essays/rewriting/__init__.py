"""Ways to change an essay's text: pieces to move, words to misspell or exchange, nonsense and known texts to put in."""
