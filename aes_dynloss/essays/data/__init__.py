"""Where essays come from: strict readers, the table, splits, checks."""
