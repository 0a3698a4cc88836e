"""Code that several families of task types share: writing files, and proving that a file is incomplete."""
