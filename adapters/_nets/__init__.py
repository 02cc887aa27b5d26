"""Networks written here: one file per family, with the keys and shapes of the released weights."""
