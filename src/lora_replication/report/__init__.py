"""The report of a study: records in; tables, figures, Markdown, JSON and one page out."""
