"""What several families of task types share: the files that they write, and what a file itself proves to be missing."""
