"""views.db: folds committed records into rows."""
