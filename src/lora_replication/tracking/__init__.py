"""The only part that knows MLflow: a mirror of the records, for looking at; it never costs a run."""
