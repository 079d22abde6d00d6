"""Why an essay got its score: what its sentences and features add, and which training essays are like it."""
