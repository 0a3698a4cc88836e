"""What several families of task types share: writing files, and finding what a file's structure proves is missing."""
