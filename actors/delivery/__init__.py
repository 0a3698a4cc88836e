"""How one notice reaches its receiver: signed POST or mail, with a deadline, and a plain word about what came of it."""
