"""The commands and questions, and those who answer: a service in this process or another one, or the files alone."""
