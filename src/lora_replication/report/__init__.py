"""The report of a study: records in; tables, figures, Markdown, JSON and one self-contained page
out.
"""
