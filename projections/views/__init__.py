"""views.db: how committed records become rows."""
