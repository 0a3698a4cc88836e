"""What can be asked and sent, and who answers: a service in this process or in another one, or the files alone."""
