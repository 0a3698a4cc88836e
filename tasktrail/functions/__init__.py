"""Functions as task types: `@task`, what `.submit` sends and to whom, and the handle of a submitted task."""
